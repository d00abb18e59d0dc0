// Runs steps of the kind worker.spell: gives the letters of a text, one after the other.
import { connect } from "@nats-io/transport-node";
import { setTimeout as pause } from "node:timers/promises";

const nats = await connect({ servers: process.env.NATS_URL ?? "127.0.0.1:4222", maxReconnectAttempts: -1 });

async function spell({ text, pause_ms = 0 }, signal, tell) {
  if (typeof text !== "string") throw new Error("text is not a text");
  for (const letter of text) {
    await pause(pause_ms, undefined, { signal });
    tell(letter);
  }
  return { letters: [...text] };
}

async function work(call) {
  const inboxes = new Set([call.reply]);
  const reply = (message) => inboxes.forEach((inbox) => nats.publish(inbox, JSON.stringify(message)));
  const cancelled = new AbortController();
  const control = nats.subscribe(call.headers.get("galley-call"), {
    callback: (_, message) => {
      if (message.json().cancel) return cancelled.abort();
      inboxes.add(message.reply); // another process of galley asks for the result as well
      reply({ heartbeat: true });
    },
  });
  const heartbeat = setInterval(() => reply({ heartbeat: true }), 5000);
  try {
    const output = await spell(call.json().input, cancelled.signal, (letter) => reply({ progress: letter }));
    reply({ output, usage: { units: output.letters.length } });
  } catch (error) {
    if (!cancelled.signal.aborted) reply({ error: { message: error.message } });
  }
  clearInterval(heartbeat);
  control.unsubscribe();
}

nats.subscribe("galley.worker.*.spell", { queue: "galley", callback: (_, call) => work(call) });
