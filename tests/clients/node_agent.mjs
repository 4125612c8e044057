/** The agent in Node. */

import vcdiff from "@ably/vcdiff-decoder";
import Ably from "ably";
import { createAgent } from "./agent.mjs";
import { serveLines } from "./lines.mjs";

const agent = createAgent(Ably, { vcdiff });
await serveLines((command) => agent[command.op](command));
process.exit(0); // clients that were not closed would keep the process
