/** The agent in Node. */

import Ably from "ably";
import { createAgent } from "./agent.mjs";
import { serveLines } from "./lines.mjs";

const agent = createAgent(Ably);
await serveLines((command) => agent[command.op](command));
process.exit(0); // clients that were not closed would keep the process
