// A chat room over the client protocol. Every text is inserted as text, never as HTML.
const { Centrifuge } = globalThis;
const element = (id) => document.getElementById(id);
const address = document.body.dataset.tidings.replace('http', 'ws');

const getToken = async (name) => {
  const response = await fetch('/enter', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ name }),
  });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()).token;
};

const show = (text, className = '') => {
  const item = document.createElement('li');
  item.textContent = text;
  item.className = className;
  element('messages').append(item);
  item.scrollIntoView();
};

const showMessage = ({ data, info }) => show(`${info.user}: ${data.text}`);

const join = (name) => {
  const client = new Centrifuge(`${address}/connection/websocket`, { getToken: () => getToken(name) });
  const room = client.newSubscription('chat:lobby');
  const count = async () => {
    const { numUsers } = await room.presenceStats();
    element('people').textContent = numUsers === 1 ? '1 person' : `${numUsers} people`;
  };

  client.on('connecting', () => { element('state').textContent = 'Connecting'; });
  room.on('subscribed', async ({ wasRecovering, recovered }) => {
    element('state').textContent = 'Connected';
    if (!wasRecovering) {
      const { publications } = await room.history({ limit: 100 });
      publications.forEach(showMessage);
    } else if (!recovered) {
      show('Messages are missing here.', 'note');
    }
    await count();
  });
  room.on('publication', showMessage);
  room.on('join', ({ info }) => { show(`${info.user} has joined`, 'note'); count(); });
  room.on('leave', ({ info }) => { show(`${info.user} has left`, 'note'); count(); });
  room.subscribe();
  client.connect();

  element('write').addEventListener('submit', async (event) => {
    event.preventDefault();
    const { text } = event.target.elements;
    try {
      await room.publish({ text: text.value });
      text.value = '';
    } catch (error) {
      show(`Not sent: ${error.message}`, 'note');
    }
  });
};

element('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  element('enter').hidden = true;
  document.querySelector('main').hidden = false;
  join(event.target.elements.name.value.trim());
});
