// What the peers on Node.js share: lines of bytes over TCP, and word of the two ports on standard output.
import { createServer } from 'node:net'

/** Listens on a free port of loopback; calls `publish` with each line, without its end. */
export function feed(publish) {
  const server = createServer((socket) => {
    let rest = Buffer.alloc(0)
    socket.on('data', (bytes) => {
      rest = rest.length ? Buffer.concat([rest, bytes]) : bytes
      let begin = 0
      for (let end; (end = rest.indexOf(10, begin)) >= 0; begin = end + 1) publish(rest.subarray(begin, end))
      rest = rest.subarray(begin)
    })
  })
  return server.listen(0, '127.0.0.1')
}

/** Says where clients and the feed are listened for, once both are. */
export function ready(clients, lines) {
  const tell = () => {
    const [port, feedPort] = [clients.address(), lines.address()].map((address) => address?.port)
    if (port && feedPort) console.log(JSON.stringify({ port, feed: feedPort }))
  }
  clients.on('listening', tell)
  lines.on('listening', tell)
}
