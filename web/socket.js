// A WebSocket that reconnects by itself.

/** @typedef {{ state: 'open' } | { state: 'waiting', seconds: number } | { state: 'ended', code: number, reason: string }} Link */

/** Upper bound of the random wait before attempt `n` (from 0), in milliseconds. Random waits spread the clients after a
 * restart of the server. @param {number} n */
export const longest = (n) => Math.min(500 * 2 ** n, 15_000);

export class Socket {
  #failures = 0;
  #ended = false;
  /** @type {number | undefined} */
  #timer;
  /** @type {WebSocket | undefined} */
  #socket;
  #beat = 0;
  /** @type {number | undefined} */
  #silence;

  /**
   * @param {() => string} address called before each attempt
   * @param {(text: string) => void} onMessage
   * @param {(link: Link) => void} onState called when the state of the connection changes
   * @param {(code: number) => boolean} [final] whether a close code forbids reconnecting
   */
  constructor(address, onMessage, onState, final = () => false) {
    this.address = address;
    this.onMessage = onMessage;
    this.onState = onState;
    this.final = final;
    addEventListener('online', () => this.retry());
    // A connection that is cut silently would otherwise look open for minutes.
    addEventListener('offline', () => this.#lost(1006, ''));
    document.addEventListener('visibilitychange', () => document.hidden || this.retry());
    this.#open();
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Bytes that wait to be sent. */
  get waiting() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** Sends a message, as JSON unless it is bytes; false without a connection. @param {object} message */
  send(message) {
    if (!this.isOpen) return false;
    this.#socket?.send(message instanceof ArrayBuffer ? message : JSON.stringify(message));
    return true;
  }

  /** Restarts the timer that closes the connection after two missed messages of the server. */
  beat() {
    const now = Date.now();
    clearTimeout(this.#silence);
    if (this.#beat) this.#silence = setTimeout(() => this.#lost(1006, ''), 2 * (now - this.#beat) + 5000);
    this.#beat = now;
  }

  /** Connects at once, if it waits to reconnect. */
  retry() {
    if (this.#timer === undefined || this.#ended) return;
    this.#open();
  }

  /** Closes for good. */
  end() {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#drop();
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = undefined;
    clearTimeout(this.#silence);
    this.#beat = 0;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    socket?.close();
  }

  #open() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#drop();
    const socket = this.#socket = new WebSocket(this.address());
    socket.onopen = () => this.onState({ state: 'open' });
    socket.onmessage = ({ data }) => {
      this.#failures = 0;
      this.onMessage(String(data));
    };
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    if (this.#ended || this.#timer !== undefined) return;
    this.#drop();
    if (this.final(code)) {
      this.#ended = true;
      this.onState({ state: 'ended', code, reason });
      return;
    }
    const wait = Math.random() * longest(this.#failures++);
    this.#timer = setTimeout(() => this.#open(), wait);
    this.onState({ state: 'waiting', seconds: Math.ceil(wait / 1000) });
  }
}
