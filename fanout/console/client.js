/**
 * A small client for fanout: one connection that comes back by itself, and channels that miss nothing.
 *
 * It speaks the JSON form of the Ably protocol over one WebSocket. Its rules:
 *
 * - Every message that is published carries an id of its own, stable over re-sending, so that one whose answer was lost
 *   is stored once however often it is sent.
 * - Every channel keeps the last `channelSerial` it was given and attaches with it after a loss: the server continues
 *   exactly there, or says that it cannot (the `gap` handler).
 * - A connection that has been silent for longer than the server promised is taken for lost.
 *
 * Applications use a published SDK; this file shows how little such a client needs.
 */

const Action = {
  HEARTBEAT: 0, ACK: 1, NACK: 2, CONNECTED: 4, DISCONNECTED: 6, CLOSE: 7, CLOSED: 8, ERROR: 9, ATTACH: 10, ATTACHED: 11,
  DETACHED: 13, MESSAGE: 15,
};
const RESUMED = 1 << 2;

const RETRY_MIN_MS = 250; // doubled by each failure in a row
const RETRY_MAX_MS = 10_000;
const REATTACH_MS = 1_000; // after the server took a channel away
const OPEN_MS = 10_000; // for the socket to open and CONNECTED to arrive
const GRACE_MS = 10_000; // added to the server's promise before silence counts as loss
const PENDING_MAX = 200; // publishes without an answer; past that `publish` refuses

/** A numbered error of the server, or one of our own without a number. */
export class ProtocolError extends Error {
  constructor({ message, code, statusCode }) {
    super(message ?? "unknown error");
    this.code = code;
    this.statusCode = statusCode;
  }
}

export class Client {
  #options;
  #socket = null;
  #channels = new Map(); // name -> {serial, params, handlers}
  #pending = []; // publishes without an answer, in msgSerial order
  #msgSerial = 0;
  #connectionKey = null;
  #failures = 0;
  #attempt = 0; // raised by each attempt and each end, so that what an older one still awaits is dropped
  #retryTimer = 0;
  #silenceTimer = 0;
  #silenceMs = OPEN_MS;

  /** "idle", "connecting", "connected", "disconnected" (it will try again), "failed" (it will not), "closed". */
  state = "idle";
  /** Our public id on this connection; another one after the server has forgotten us. */
  connectionId = null;

  /**
   * @param {object} options
   * @param {string} options.url where the server is, for example ws://127.0.0.1:8080/
   * @param {() => Promise<string>} options.key asked before each attempt, so that a new key is taken up
   * @param {(state: string, reason?: Error) => void} options.onState
   */
  constructor(options) {
    this.#options = options;
    // A device that finds its network again need not wait for the next attempt.
    globalThis.addEventListener?.("online", () => this.state === "disconnected" && this.#open());
  }

  connect() {
    if (["idle", "failed", "closed"].includes(this.state)) this.#open();
  }

  /** Ends the connection for good; what is still unanswered is rejected. */
  close() {
    this.#send({ action: Action.CLOSE });
    this.#stop("closed", new ProtocolError({ message: "closed" }));
  }

  /**
   * Follows a channel, from now on or from `rewind` messages ago.
   *
   * @param {string} name
   * @param {object} handlers `message(message)`, and where they matter `attached()`, `gap(error)`, `failed(error)`
   * @param {{rewind?: string}} params
   */
  subscribe(name, handlers, params = {}) {
    this.#channels.set(name, { serial: undefined, params, handlers });
    if (this.state === "connected") this.#attach(name);
  }

  /**
   * Publishes one message; it is sent, or sent again, whenever there is a connection.
   *
   * @param {string} channel
   * @param {{id: string, name?: string, data?: string, clientId?: string}} message `id`: see `newId`
   * @returns {Promise<string>} its serial, once the log has it; rejects with a ProtocolError when it was refused
   */
  publish(channel, message) {
    if (this.#pending.length >= PENDING_MAX) {
      return Promise.reject(new ProtocolError({ message: "too many messages are waiting for an answer" }));
    }
    return new Promise((resolve, reject) => {
      const publish = { msgSerial: this.#msgSerial++, channel, message, resolve, reject };
      this.#pending.push(publish);
      if (this.state === "connected") this.#sendPublish(publish);
    });
  }

  async #open() {
    clearTimeout(this.#retryTimer);
    const attempt = ++this.#attempt;
    this.#change("connecting");
    let key, failure;
    try {
      key = await this.#options.key();
    } catch (error) {
      failure = error;
    }
    if (attempt !== this.#attempt) return;
    if (failure) {
      this.#lost(failure);
      return;
    }
    const query = new URLSearchParams({ v: "5", format: "json", heartbeats: "true", key });
    if (this.#connectionKey) query.set("resume", this.#connectionKey);
    const socket = new WebSocket(`${this.#options.url}?${query}`);
    this.#socket = socket;
    this.#silenceMs = OPEN_MS;
    this.#listen();
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = () => this.#lost();
  }

  /** Goes back to the start of an attempt: at once the first time, then later and later. */
  #lost(error) {
    if (this.state !== "connecting" && this.state !== "connected") return;
    this.#drop();
    const ceiling = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** this.#failures++);
    const wait = ceiling * (0.5 + Math.random() / 2); // spread, so that a restart does not bring all back at once
    this.#change("disconnected", error);
    this.#retryTimer = setTimeout(() => this.#open(), wait);
  }

  #stop(state, error) {
    clearTimeout(this.#retryTimer);
    this.#drop();
    this.#connectionKey = null;
    for (const publish of this.#pending.splice(0)) publish.reject(error);
    this.#change(state, error);
  }

  #drop() {
    this.#attempt++;
    clearTimeout(this.#silenceTimer);
    if (!this.#socket) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #listen() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => this.#lost(), this.#silenceMs);
  }

  #receive(frame) {
    this.#listen();
    const channel = this.#channels.get(frame.channel);
    const error = frame.error && new ProtocolError(frame.error);
    switch (frame.action) {
      case Action.CONNECTED:
        this.#connected(frame);
        break;
      case Action.ACK:
      case Action.NACK:
        this.#answered(frame, error);
        break;
      case Action.ATTACHED: {
        if (!channel) break;
        const lost = channel.serial !== undefined && !(frame.flags & RESUMED);
        channel.serial = frame.channelSerial;
        channel.handlers.attached?.();
        if (lost) channel.handlers.gap?.(error);
        break;
      }
      case Action.MESSAGE:
        if (!channel) break;
        channel.serial = frame.channelSerial;
        frame.messages.forEach((message, index) => this.#deliver(channel, {
          id: `${frame.id}:${index}`, connectionId: frame.connectionId, timestamp: frame.timestamp, ...message,
        }));
        break;
      case Action.DETACHED:
        if (channel) setTimeout(() => this.state === "connected" && this.#attach(frame.channel), REATTACH_MS);
        break;
      case Action.ERROR:
        if (frame.channel === undefined) this.#stop("failed", error);
        else channel?.handlers.failed?.(error);
        break;
      case Action.DISCONNECTED:
        this.#lost(error);
        break;
    }
  }

  /** Hands one message over; a handler that fails on it does not cost the others. */
  #deliver(channel, message) {
    try {
      channel.handlers.message(message);
    } catch (error) {
      console.error(error);
    }
  }

  #connected({ connectionId, connectionDetails }) {
    const resumed = connectionId === this.connectionId;
    this.connectionId = connectionId;
    this.#connectionKey = connectionDetails.connectionKey;
    this.#silenceMs = connectionDetails.maxIdleInterval + GRACE_MS;
    this.#listen();
    this.#failures = 0;
    this.#change("connected");
    for (const name of this.#channels.keys()) this.#attach(name);
    if (!resumed) {
      // The server counts a new connection's publishes from 0.
      this.#msgSerial = 0;
      for (const publish of this.#pending) publish.msgSerial = this.#msgSerial++;
    }
    for (const publish of this.#pending) this.#sendPublish(publish);
  }

  #answered({ action, msgSerial, count = 1, res }, error) {
    const answered = this.#pending.filter((publish) => publish.msgSerial < msgSerial + count);
    this.#pending.splice(0, answered.length);
    for (const publish of answered) {
      if (action === Action.NACK) publish.reject(error);
      else publish.resolve(res?.[publish.msgSerial - msgSerial]?.serials?.[0]);
    }
  }

  #attach(channel) {
    const { serial, params } = this.#channels.get(channel);
    this.#send({ action: Action.ATTACH, channel, params, channelSerial: serial });
  }

  #sendPublish({ msgSerial, channel, message }) {
    this.#send({ action: Action.MESSAGE, msgSerial, channel, messages: [message] });
  }

  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #change(state, reason) {
    this.state = state;
    this.#options.onState?.(state, reason);
  }
}

/** An id for a message that no other message has. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `${btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_")}:0`;
}

/** The data of a received message as text that a person can read. */
export function readable({ data, encoding }) {
  if (data === undefined || data === null) return "";
  if (!encoding) return typeof data === "string" ? data : JSON.stringify(data, null, 2);
  if (encoding === "json") {
    try {
      return JSON.stringify(JSON.parse(data), null, 2);
    } catch {
      return data;
    }
  }
  if (encoding === "base64") {
    try {
      return `${atob(data).length} bytes of binary data`;
    } catch {
      return "(cannot be shown)"; // whoever wrote the record said base64, and it is not
    }
  }
  return `data encoded as ${encoding}`;
}

/** When a message was written, or null if that is no date: a record's timestamp can be any number. */
export function dateOf({ timestamp }) {
  const date = new Date(timestamp ?? NaN);
  return Number.isNaN(date.getTime()) ? null : date;
}
