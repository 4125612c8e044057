// One channel over `ws`: each line that comes on the feed is sent to every client.
import { WebSocketServer } from 'ws'
import { feed, ready } from './feed.js'

const clients = new WebSocketServer({ host: '127.0.0.1', port: 0, backlog: 4096, perMessageDeflate: false })
clients.on('connection', (client) => client.send('hello'))

const lines = feed((line) => {
  for (const client of clients.clients) client.send(line, { binary: false })
})

ready(clients, lines)
