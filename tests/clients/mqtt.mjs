/** MQTT.js under remote control: one process, many clients. */

import { readFileSync } from "node:fs";

import mqtt from "mqtt";

import { serveLines } from "./lines.mjs";

const clients = new Map();

async function connect({ name, url, version, username, password, authority, properties }) {
  const client = await mqtt.connectAsync(url, {
    clientId: name,
    protocolVersion: version,
    username,
    password,
    ca: authority && readFileSync(authority),
    reconnectPeriod: 0,
    properties,
  });
  const held = { client, received: [], waiting: [] };
  client.on("message", (topic, payload, packet) => {
    held.received.push({ topic, payload: payload.toString(), qos: packet.qos, properties: packet.properties });
    for (const look of held.waiting) look();
  });
  clients.set(name, held);
}

async function received({ name, count }) {
  const held = clients.get(name);
  await new Promise((resolve) => {
    const look = () => held.received.length >= count && resolve();
    held.waiting.push(look);
    look();
  });
  return held.received;
}

const operations = {
  connect,
  received,
  subscribe: async ({ name, topic, qos }) =>
    (await clients.get(name).client.subscribeAsync(topic, { qos })).map((granted) => granted.qos),
  publish: ({ name, topic, payloads, qos, properties }) =>
    Promise.all(payloads.map((payload) => clients.get(name).client.publishAsync(topic, payload, { qos, properties }))),
  end: ({ name }) => clients.get(name).client.endAsync(),
};

await serveLines(({ op, ...given }) => operations[op](given));
