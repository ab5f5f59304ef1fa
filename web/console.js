// The live console: one channel of the server, over the client protocol in JSON (/connection/websocket).

import { $, button, get, input, make, socketAddress } from './dom.js';
import { Socket } from './socket.js';

/** Most messages on the page. */
const MAX_MESSAGES = 200;

/** @type {Socket | undefined} */
let socket;
let last = 0;
/** Handlers of the replies to commands, by the number of the command. @type {Map<number, (reply: any) => void>} */
const waiting = new Map();
/** The last position in the channel's history, if it has one. @type {{ epoch: string, offset: number } | undefined} */
let position;

/** @param {string} text */
const setStatus = (text) => { $('listening').textContent = text; };

/** @param {unknown} data @param {string} [label] */
const show = (data, label) => {
  const list = $('messages');
  const text = typeof data === 'string' ? data : JSON.stringify(data);
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
  list.append(make('p', label ? { class: 'quiet' } : {}, make('time', {}, new Date().toLocaleTimeString('en-GB')), label ?? text));
  while (list.childElementCount > MAX_MESSAGES) list.firstElementChild?.remove();
  if (isAtEnd) list.scrollTop = list.scrollHeight;
};

/** @param {Record<string, unknown>} command @param {(result: any) => void} done */
const request = (command, done) => {
  const id = ++last;
  waiting.set(id, (reply) => {
    if (reply.error) setStatus(`Refused: ${reply.error.message} (${reply.error.code})`);
    else done(reply);
  });
  if (!socket?.send({ id, ...command })) setStatus('Not connected; the message was not sent.');
};

/** @param {string} channel */
const subscribe = (channel) => {
  const recover = position && { recover: true, ...position };
  request({ subscribe: { channel, ...recover } }, ({ subscribe: { recovered, publications, recoverable, epoch, offset } }) => {
    setStatus(`Subscribed to ${channel}.`);
    if (recover && !recovered) show('', 'Messages published during the lost connection cannot be recovered.');
    for (const publication of publications ?? []) show(publication.data);
    position = recoverable ? { epoch, offset: offset ?? 0 } : undefined;
  });
};

/** @param {string} text @param {string} channel */
const onMessage = (text, channel) => {
  for (const line of text.split('\n')) {
    if (!line.trim()) continue;
    const message = JSON.parse(line);
    if (message.id) {
      waiting.get(message.id)?.(message);
      waiting.delete(message.id);
    } else if (message.push?.pub) {
      show(message.push.pub.data);
      if (position && message.push.pub.offset) position.offset = message.push.pub.offset;
    } else if (message.push?.unsubscribe) {
      setStatus(`The server has ended the subscription: ${message.push.unsubscribe.reason ?? ''}`);
      if (message.push.unsubscribe.code >= 2500) subscribe(channel);
    } else if (!Object.keys(message).length) {
      socket?.beat();
      socket?.send({});
    }
  }
};

/** @param {string} channel @param {string} token */
const connect = (channel, token) => {
  socket?.end();
  waiting.clear();
  position = undefined;
  setStatus('Connecting…');
  // After codes 3500 to 3999 and 4500 to 4999 the client does not reconnect.
  const final = (/** @type {number} */ code) => (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
  socket = new Socket(() => socketAddress('connection/websocket'), (text) => onMessage(text, channel), (link) => {
    waiting.clear();
    if (link.state === 'open') request({ connect: { ...(token && { token }), name: 'page' } }, () => subscribe(channel));
    else if (link.state === 'waiting') setStatus(`Not connected. Trying again in ${link.seconds} s.`);
    else setStatus(`The server has closed the connection: ${link.reason || link.code}`);
  }, final);
};

export const startConsole = () => {
  const listen = get('listen', HTMLFormElement);
  listen.onsubmit = (event) => {
    event.preventDefault();
    $('messages').replaceChildren();
    connect(input('channel').value.trim(), input('token').value.trim());
  };
  get('publish', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    const text = input('message').value;
    /** @type {unknown} */
    let data = text;
    try {
      data = JSON.parse(text);
    } catch {
      // Not JSON: it is sent as text.
    }
    if (!socket) {
      setStatus('Subscribe first.');
      button('listen-button').focus();
      return;
    }
    request({ publish: { channel: input('channel').value.trim(), data } }, () => { input('message').value = ''; });
  };
};
