/**
 * Clients of the `ably` package under remote control: the same file runs in Node and in a browser.
 *
 * One agent holds any number of clients, each named by its commands' `client`. It keeps what each channel received, in
 * order, and never throws on its own account: what the SDK raises goes back to whoever sent the command.
 */

/** Text of a payload that is the same in every agent: text as it is, bytes in hex, anything else as JSON. */
function textOf(data) {
  if (typeof data === "string") return data;
  const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : data;
  if (!(bytes instanceof Uint8Array)) return JSON.stringify(data ?? null);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function sha256(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return textOf(digest);
}

/** A payload as a command spells it: `{hex}` is bytes, everything else is itself. */
function payload(data) {
  if (typeof data?.hex !== "string") return data;
  return Uint8Array.from(data.hex.match(/../g) ?? [], (pair) => parseInt(pair, 16)).buffer;
}

/** Resolves once `reached()` is true; `subscribe(check)` has it asked again, `unsubscribe(check)` ends that. */
function until(reached, subscribe, unsubscribe, timeout, describe) {
  return new Promise((resolve, reject) => {
    const check = () => {
      if (!reached()) return;
      clearTimeout(timer);
      unsubscribe(check);
      resolve(null);
    };
    const timer = setTimeout(() => {
      unsubscribe(check);
      reject(new Error(`not within ${timeout} ms: ${describe()}`));
    }, timeout);
    subscribe(check);
    check();
  });
}

export function createAgent(Ably, plugins = {}) {
  const clients = new Map(); // name -> {realtime, received and updates by channel, waiters, events}

  function received(client, channel) {
    const { received } = clients.get(client);
    if (!received.has(channel)) received.set(channel, []);
    return received.get(channel);
  }

  function presence(client, channel) {
    const { presence } = clients.get(client);
    if (!presence.has(channel)) presence.set(channel, []);
    return presence.get(channel);
  }

  const channelOf = ({ client, channel }) => clients.get(client).realtime.channels.get(channel);

  return {
    /** Starts to connect; `state` and `awaitState` tell how it went. */
    connect({ client, host, port, tls = false, key, format, clientId, tokens, options = {} }) {
      const authCallback = (_, give) => give(null, tokens.length > 1 ? tokens.shift() : tokens[0]);
      const realtime = new Ably.Realtime({
        endpoint: host, port, tlsPort: port, tls, ...(tokens ? { authCallback } : { key }), ...(clientId && { clientId }),
        useBinaryProtocol: format === "msgpack",
        disconnectedRetryTimeout: 500, suspendedRetryTimeout: 500, disableConnectivityCheck: true,
        wsConnectivityCheckUrl: `${tls ? "wss" : "ws"}://${host}:${port}/`, logLevel: 0, plugins, ...options,
      });
      const entry = { realtime, received: new Map(), presence: new Map(), updates: new Map(), waiters: new Set(), events: [] };
      realtime.connection.on(({ current, reason }) => entry.events.push({ state: current, code: reason?.code ?? null }));
      clients.set(client, entry);
    },

    state({ client }) {
      const { realtime, events } = clients.get(client);
      const { state, id, errorReason } = realtime.connection;
      return { state, connectionId: id ?? null, code: errorReason?.code ?? null, events };
    },

    awaitState({ client, state, timeout }) {
      const { connection } = clients.get(client).realtime;
      return until(() => connection.state === state, (check) => connection.on(check), (check) => connection.off(check),
        timeout, () => `connection is ${connection.state}, not ${state} (${connection.errorReason?.message})`);
    },

    /** Changes the connection's token for one with these parameters. */
    async authorize({ client, params }) {
      await clients.get(client).realtime.auth.authorize(params);
    },

    /** Subscribes and attaches; rejects with the channel's error when it may not be. */
    async attach({ client, channel, params, modes }) {
      const handle = channelOf({ client, channel });
      if (params || modes) await handle.setOptions({ ...(params && { params }), ...(modes && { modes }) });
      const entry = clients.get(client);
      const list = received(client, channel);
      const updates = [];
      handle.on((change) => change.current === "attached" && updates.push(change.resumed));
      entry.updates.set(channel, updates);
      await handle.subscribe((message) => {
        list.push(message);
        for (const check of entry.waiters) check();
      });
    },

    /** `enter`, `update` or `leave`, as oneself or as the client named. */
    present({ client, channel, action, as, data }) {
      const { presence } = channelOf({ client, channel });
      return as ? presence[`${action}Client`](as, payload(data)) : presence[action](payload(data));
    },

    /** Keeps what is told of presence from now on, members that are there already among it. */
    async watchPresence({ client, channel }) {
      const entry = clients.get(client);
      const list = presence(client, channel);
      await channelOf({ client, channel }).presence.subscribe(({ action, clientId, data }) => {
        list.push([action, clientId, textOf(data ?? "")]);
        for (const check of entry.waiters) check();
      });
    },

    awaitPresence({ client, channel, count, timeout }) {
      const { waiters } = clients.get(client);
      const list = presence(client, channel);
      return until(() => list.length >= count, (check) => waiters.add(check), (check) => waiters.delete(check),
        timeout, () => `${list.length} of ${count} presence events came on ${channel}`);
    },

    presenceEvents: ({ client, channel }) => presence(client, channel),

    /** Who is there, once the set is complete: client id and data, in their order. */
    async members({ client, channel }) {
      const members = await channelOf({ client, channel }).presence.get();
      return members.map(({ clientId, data }) => [clientId, textOf(data ?? "")]).sort();
    },

    detach: (command) => channelOf(command).detach(),

    /** For each time the channel was attached again: whether the server said that nothing is missing. */
    continuity: ({ client, channel }) => clients.get(client).updates.get(channel),

    /** Publishes one after another, or at once with `pipelined`; returns the serials in order. */
    async publish({ client, channel, messages, pipelined = false }) {
      const handle = channelOf({ client, channel });
      const publish = async (message) => (await handle.publish({ ...message, data: payload(message.data) })).serials[0];
      if (pipelined) return Promise.all(messages.map(publish));
      const serials = [];
      for (const message of messages) serials.push(await publish(message));
      return serials;
    },

    awaitCount({ client, channel, count, timeout }) {
      const { waiters } = clients.get(client);
      const list = received(client, channel);
      return until(() => list.length >= count, (check) => waiters.add(check), (check) => waiters.delete(check),
        timeout, () => `${list.length} of ${count} messages arrived on ${channel}`);
    },

    /** How many messages a channel received, and the SHA-256 of their texts, each followed by a newline. */
    async summary({ client, channel }) {
      const list = received(client, channel);
      return { count: list.length, sha256: await sha256(list.map(({ data }) => `${textOf(data)}\n`).join("")) };
    },

    received: ({ client, channel }) => received(client, channel).map(
      ({ id, name, data, clientId, connectionId, timestamp, serial, extras, action, annotations }) =>
        ({ id, name, data: textOf(data), clientId, connectionId, timestamp, serial, extras, action, annotations }),
    ),

    /** `update`, `delete` or `append` (`how`); returns the serial of the new version. */
    async change({ client, channel, how, serial, data }) {
      const message = { serial, ...(data !== undefined && { data: payload(data) }) };
      return (await channelOf({ client, channel })[`${how}Message`](message)).versionSerial;
    },

    /** Says something about a message, or takes it back (`how` is `publish` or `delete`). */
    annotate: ({ client, channel, how, serial, annotation }) =>
      channelOf({ client, channel }).annotations[how](serial, annotation),

    /** Who said what about a message, oldest first. */
    async annotations({ client, channel, serial }) {
      const { items } = await channelOf({ client, channel }).annotations.get(serial);
      return items.map(({ action, type, name, clientId }) => [action, type, name, clientId]);
    },

    async history({ client, channel, params }) {
      const pages = [];
      let page = await channelOf({ client, channel }).history(params);
      while (page) {
        pages.push(page.items.map(({ data }) => textOf(data)));
        page = page.hasNext() ? await page.next() : null;
      }
      return pages;
    },

    async close({ client }) {
      const { realtime } = clients.get(client);
      clients.delete(client);
      realtime.close();
    },
  };
}
