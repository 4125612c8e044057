// One room of Socket.IO: each line that comes on the feed is emitted to it. Keep-alives are off, as with all peers.
import { createServer } from 'node:http'
import { Server } from 'socket.io'
import { feed, ready } from './feed.js'

const clients = createServer()
const io = new Server(clients, { transports: ['websocket'], serveClient: false, pingInterval: 86_400_000 })
io.on('connection', (socket) => socket.join('load-0'))

const lines = feed((line) => io.to('load-0').emit('m', line.toString()))
ready(clients.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }), lines)
