// A worker in plain JavaScript, with the WebSocket that Node has since version 22 (browsers and Deno have it too).
// It reconnects, keeps its jobs over a lost connection, and ends on SIGTERM or Ctrl-C after what it has begun.

const url = (process.env.REXECUTOR_URL ?? "http://127.0.0.1:8000").replace(/^http/, "ws");
const executor = process.argv[2] ?? "example-js";
const CONCURRENCY = 10;

async function run(job) {
  console.log(`attempt ${job.attempt} of job ${job.id}: ${JSON.stringify(job.data)}`);
  await new Promise((resolve) => setTimeout(resolve, job.data?.milliseconds ?? 0));
  if (job.data?.fails && job.attempt < 2) throw new Error("asked to fail once");
}

let socket = null;
let resume = null; // the token that brings us back to the jobs we hold
let stopping = false;
const held = new Map(); // what we work on, by job id
const unconfirmed = new Map(); // acknowledgements without a result yet: sent again after a reconnect, which is harmless

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

const text = (value) => { try { return String(value); } catch { return typeof value; } };

function acknowledge(job, message) {
  const sent = { ...message, id: job.id, fence: job.fence, ref: `${job.id}/${job.fence}` };
  unconfirmed.set(sent.ref, sent);
  send(sent);
}

async function work(job) {
  held.set(job.id, job.fence);
  let outcome = { type: "complete" };
  try {
    await run(job);
  } catch (error) {
    const failure = { error_type: text(error?.name ?? typeof error), message: text(error?.stack ?? error) };
    const last = job.attempt >= job.max_attempts;
    outcome = last ? { type: "discard", error: failure } : { type: "retry", delay: 0.5 * 2 ** job.attempt, error: failure };
  }
  if (held.get(job.id) !== job.fence) return; // another's by now
  held.delete(job.id);
  acknowledge(job, outcome);
}

function take(message) {
  switch (message.type) {
    case "hello":
      resume = message.resume;
      // What we work on and the session does not hold is another's; we were away for too long.
      for (const [id, fence] of held) if (!message.held.some((each) => each.id === id && each.fence === fence)) held.delete(id);
      // What is held by the session but unknown here was on its way when the connection broke.
      for (const { id, fence } of message.held)
        if (held.get(id) !== fence && !unconfirmed.has(`${id}/${fence}`)) send({ type: "release", id, fence });
      for (const acknowledgement of unconfirmed.values()) send(acknowledgement);
      console.log(`connected to ${executor}${message.resumed ? ", again" : ""}`);
      break;
    case "job":
      work(message.job);
      break;
    case "revoke": // cancelled, or another's by now: what we do for it counts for nothing
      console.log(`job ${message.id} was revoked: ${message.reason}`);
      if (held.get(message.id) === message.fence) held.delete(message.id);
      break;
    case "result":
      if (!message.ok) console.log(`${message.ref}: ${message.problem.detail ?? message.problem.title}`);
      // What the service cannot take now it may take later; what it refuses is over.
      if (message.ok || message.problem.status < 500) unconfirmed.delete(message.ref);
      else setTimeout(() => unconfirmed.has(message.ref) && send(unconfirmed.get(message.ref)), 1_000);
      break;
  }
  if (stopping && held.size === 0 && unconfirmed.size === 0) socket.close();
}

function connect(pause = 100) {
  const token = resume ? `&resume=${encodeURIComponent(resume)}` : "";
  socket = new WebSocket(`${url}/v1/executors/${executor}/subscribe?batch=true&worker=node&prefetch=${stopping ? 0 : CONCURRENCY}${token}`, ["rexecutor.v1"]);
  let heartbeat;
  socket.addEventListener("open", () => {
    pause = 100;
    heartbeat = setInterval(() => send({ type: "heartbeat" }), 5_000);
  });
  socket.addEventListener("message", ({ data }) => {
    const content = JSON.parse(data);
    for (const message of Array.isArray(content) ? content : [content]) take(message);
  });
  let lost = false; // a connection that could not be made brings an error, and not everywhere a close
  const reconnect = () => {
    if (lost) return;
    lost = true;
    clearInterval(heartbeat);
    unconfirmed.delete("stop"); // what we asked for is forgotten with the connection
    if (stopping && held.size === 0 && unconfirmed.size === 0) process.exit(0);
    setTimeout(() => connect(Math.min(pause * 2, 5_000)), pause * (0.5 + Math.random()));
  };
  socket.addEventListener("close", reconnect);
  socket.addEventListener("error", reconnect);
}

for (const signal of ["SIGTERM", "SIGINT"])
  process.on(signal, () => {
    stopping = true;
    if (socket.readyState === WebSocket.OPEN) {
      // No job follows its result; then we end with the last one that we have.
      unconfirmed.set("stop", { type: "stop", ref: "stop" });
      send(unconfirmed.get("stop"));
    } else if (held.size === 0 && unconfirmed.size === 0) process.exit(0);
  });

connect();
