// Shows an answer while it is written. The address of the page has the id of the answer, so that a reload continues it.
const output = document.getElementById('answer');
const state = document.getElementById('state');

const follow = (id) => {
  const channel = `answer:${id}`;
  const address = new URL('/events', document.body.dataset.tidings);
  // Position 0: from the first word, also when the answer is complete already.
  address.search = new URLSearchParams({ channel, last_event_id: `0..${channel}` });
  const events = new EventSource(address);
  output.replaceChildren();
  events.onopen = () => { state.textContent = 'Writing'; };
  events.onerror = () => { state.textContent = 'Reconnecting'; };
  events.addEventListener('gap', () => { events.close(); state.textContent = 'This answer is no longer stored.'; });
  events.onmessage = ({ data }) => {
    const { text, done } = JSON.parse(data);
    if (text) output.append(text);
    if (done) {
      events.close();
      state.textContent = 'Complete';
    }
  };
};

document.getElementById('ask').addEventListener('submit', async (event) => {
  event.preventDefault();
  const response = await fetch('/ask', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ question: event.target.elements.question.value }),
  });
  if (!response.ok) {
    state.textContent = await response.text();
    return;
  }
  const { id } = await response.json();
  location.hash = id;
});

const start = () => { if (location.hash) follow(location.hash.slice(1)); };
addEventListener('hashchange', start);
start();
