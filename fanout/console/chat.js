/**
 * The chat: what the page shows and what a person can do with it. Everything received is put into text nodes.
 *
 * The log is shown in its own order. What we wrote stays below it, marked, until it comes back from the log; then it
 * moves to its place there. So the page never shows an order that nobody else sees.
 */

import { Client, dateOf, newId, readable } from "./client.js";

const SHOWN_MAX = 500; // messages on the page; older ones leave it
const REWIND = "50"; // messages to begin with

const byId = (id) => document.getElementById(id);
const channel = new URLSearchParams(location.search).get("channel") || "chat:lobby";
const waiting = new Map(); // message id -> its item in #pending
const ours = new Set(); // the connection ids this page has had
let lastKey = null; // what the last attempt used
let wrongKey = null; // what the server has refused

const client = new Client({
  url: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`,
  key: findKey,
  onState: showState,
});

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// -- the key: from the address's fragment, this tab's storage, the server's demo key, or a person ---------------------

function takeKeyFromAddress() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!key) return;
  sessionStorage.setItem("key", key);
  history.replaceState(null, "", location.pathname + location.search); // a key is not left where it is copied from
}

async function findKey() {
  const stored = sessionStorage.getItem("key");
  const key = stored ?? (await (await fetch("demo.json")).json()).key;
  return useKey(key && key !== wrongKey ? key : await askForKey());
}

function askForKey() {
  const form = byId("key-form");
  form.hidden = false;
  byId("chat").hidden = byId("compose").hidden = true;
  showState("waiting for a key");
  byId("key").focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      const key = byId("key").value.trim();
      sessionStorage.setItem("key", key);
      form.hidden = true;
      byId("chat").hidden = byId("compose").hidden = false;
      resolve(key);
    };
  });
}

function useKey(key) {
  lastKey = key;
  const url = `${location.origin}/channels/${encodeURIComponent(channel)}/messages`;
  byId("curl").textContent =
    `curl -u '${key}' '${url}' -H 'Content-Type: application/json' -d '{"name":"greeting","data":"hello"}'`;
  return key;
}

// -- the connection ---------------------------------------------------------------------------------------------------

function showState(state, reason) {
  const element = byId("state");
  const texts = { disconnected: "reconnecting", connecting: "connecting" };
  element.dataset.state = state;
  element.textContent = texts[state] ?? state;
  element.title = reason?.message ?? "";
  if (state === "connected") ours.add(client.connectionId);
  if (state === "failed") {
    if (reason.statusCode === 401) {
      wrongKey = lastKey;
      sessionStorage.removeItem("key");
      byId("key-help").textContent = `That key was refused: ${reason.message}.`;
      client.connect();
    } else {
      notice(`The server ended the connection: ${reason.message}`);
    }
  }
}

// -- the log ----------------------------------------------------------------------------------------------------------

function atNewest(change) {
  const scroll = byId("scroll");
  const near = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  change();
  if (near) scroll.scrollTop = scroll.scrollHeight;
  byId("newest").hidden = near;
}

function append(item) {
  atNewest(() => {
    const log = byId("log");
    byId("empty").hidden = true;
    log.append(item);
    while (log.childElementCount > SHOWN_MAX) log.firstElementChild.remove();
  });
}

function notice(text) {
  append(make("li", "notice", text));
}

function hue(text) {
  let sum = 0;
  for (const letter of text) sum = (sum * 31 + letter.codePointAt(0)) % 8;
  return String(sum);
}

function bubble({ who, mine, name, text, date }) {
  const item = make("li", `message ${mine ? "me" : "other"}`);
  const face = make("span", "face", [...who][0].toUpperCase());
  face.dataset.hue = hue(who);
  face.setAttribute("aria-hidden", "true");
  const head = make("p", "head");
  head.append(make("strong", "", mine ? `${who} (me)` : who));
  if (name && name !== "chat") head.append(make("span", "name", name));
  if (date) {
    const time = make("time", "", date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    time.dateTime = date.toISOString();
    time.title = date.toLocaleString();
    head.append(time);
  }
  const body = make("div", "body");
  body.append(head, make("p", "text", text));
  item.append(face, body);
  return item;
}

function received(message) {
  const mine = ours.has(message.connectionId) || waiting.has(message.id);
  waiting.get(message.id)?.remove();
  waiting.delete(message.id);
  const who = message.clientId || (message.connectionId ? "somebody" : "record");
  const item = bubble({ who, mine, name: message.name, text: readable(message), date: dateOf(message) });
  item.dataset.id = message.id;
  append(item);
}

// -- writing ----------------------------------------------------------------------------------------------------------

function send(message) {
  waiting.get(message.id)?.remove();
  const item = bubble({ who: message.clientId, mine: true, text: message.data });
  const status = make("p", "status", "sending");
  item.classList.add("waiting");
  item.querySelector(".body").append(status);
  waiting.set(message.id, item);
  atNewest(() => {
    byId("empty").hidden = true;
    byId("pending").append(item);
  });
  byId("scroll").scrollTop = byId("scroll").scrollHeight;
  client.publish(channel, message).then(
    () => { status.textContent = "stored"; },
    (error) => {
      if (!waiting.has(message.id)) return; // the log has it: only the answer was lost
      item.classList.add("failed");
      status.textContent = `not sent: ${error.message} `;
      const again = make("button", "again", "Try again");
      again.type = "button";
      again.onclick = () => send(message);
      status.append(again);
    },
  );
}

function compose(event) {
  event.preventDefault();
  const text = byId("text");
  const clientId = byId("name").value.trim();
  if (!text.value.trim() || !clientId) return;
  sessionStorage.setItem("name", clientId);
  send({ id: newId(), name: "chat", clientId, data: text.value.trim() });
  text.value = "";
  text.focus();
}

function start() {
  takeKeyFromAddress();
  document.title = `${channel} · fanout`;
  byId("channel").textContent = channel;
  byId("name").value = sessionStorage.getItem("name") ?? `guest ${Math.floor(100 + Math.random() * 900)}`;
  byId("compose").onsubmit = compose;
  byId("text").onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) compose(event);
  };
  byId("newest").onclick = () => byId("scroll").scrollTo({ top: byId("scroll").scrollHeight });
  byId("scroll").onscroll = () => atNewest(() => {});
  client.subscribe(channel, {
    message: received,
    gap: (error) => notice(`Some messages are missing here${error ? `: ${error.message}` : ""}.`),
    failed: (error) => notice(`This channel cannot be followed: ${error.message}`),
  }, { rewind: REWIND });
  client.connect();
  byId("text").focus();
  addEventListener("hashchange", () => location.reload()); // another key was put into the address
  addEventListener("pagehide", () => client.close());
  addEventListener("pageshow", ({ persisted }) => persisted && client.connect());
}

start();
