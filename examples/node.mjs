/**
 * A chat line from Node.js with the published SDK.
 *
 *   npm install ably
 *   node node.mjs 'appId.keyId:secret' [PORT]
 */

import Ably from "ably";

const [key, port = "8080"] = process.argv.slice(2);
const client = new Ably.Realtime({ key, endpoint: "127.0.0.1", port: Number(port), tls: false, clientId: "node" });

const channel = client.channels.get("chat:lobby", { params: { rewind: "10" } });
const heard = new Promise((resolve) => channel.subscribe((message) => {
  console.log(`${message.clientId ?? "record"}: ${message.data}`);
  if (message.clientId === "node") resolve();
}));

await channel.publish("chat", "hello from Node");
await heard;
client.close();
