/** Commands as JSON lines on stdin, each answered on stdout under its `n`; many may be under way at once. */

import { createInterface } from "node:readline";

/** Answers until stdin ends. `handle` gets a command and returns its result, or throws. */
export async function serveLines(handle) {
  const answer = (reply) => process.stdout.write(`${JSON.stringify(reply)}\n`);
  answer({ ready: true });
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    Promise.resolve()
      .then(() => handle(command))
      .then((result) => answer({ n: command.n, result: result ?? null }))
      .catch((error) => answer({
        n: command.n, error: { message: String(error?.message ?? error), code: error?.code, statusCode: error?.statusCode },
      }));
  }
}
