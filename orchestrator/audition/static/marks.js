// Saves marks at once, in their order; what storage or the network does not take is kept and tried again.

import { post } from "./net.js";

const AGAIN_MS = 3000;

export class Keeper {
  constructor(library, changed, told) {
    Object.assign(this, { library, changed, told });
    this.queue = [];
    this.sending = false;
    addEventListener("beforeunload", (event) => this.queue.length && event.preventDefault());
  }

  set(listener, id, fields) {
    this.merge(id, fields);
    this.queue.push({ listener, id, set: fields });
    this.changed(id);
    this.told("", false);
    this.send();
  }

  merge(id, fields) {
    const said = { ...this.library.said(id), ...fields };
    for (const [key, value] of Object.entries(fields)) if (value === null) delete said[key];
    this.library.marks.set(id, said);
  }

  // After news from the server: what is still on its way here counts more.
  reapply() {
    for (const { id, set } of this.queue) this.merge(id, set);
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    while (this.queue.length) {
      try {
        await post("/marks", this.queue[0]);
        this.queue.shift();
        this.told(this.queue.length ? `saving ${this.queue.length}` : "saved", false);
      } catch (error) {
        if (error.status && error.status < 500) {
          this.queue.shift(); // it will never be taken
          this.told(`not saved: ${error.message}`, true);
          continue;
        }
        const count = this.queue.length;
        this.told(`${count} ${count > 1 ? "marks" : "mark"} not saved yet: ${error.message}`, true);
        setTimeout(() => {
          this.sending = false;
          this.send();
        }, AGAIN_MS);
        return;
      }
    }
    this.sending = false;
  }
}
