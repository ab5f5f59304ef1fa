// Live scores from a plain event stream. The position 0 requests the history from its beginning.
const channel = 'scores:nba';
const address = new URL('/events', document.body.dataset.tidings);
address.search = new URLSearchParams({ channel, last_event_id: `0..${channel}` });
const state = document.getElementById('state');
const rows = new Map();

const row = (game) => {
  if (!rows.has(game)) {
    const added = document.getElementById('scores').insertRow();
    added.insertCell().textContent = game;
    rows.set(game, added.insertCell());
  }
  return rows.get(game);
};

const events = new EventSource(address);
events.onopen = () => { state.textContent = 'Live'; };
events.onerror = () => { state.textContent = 'Reconnecting'; };
events.addEventListener('gap', () => { state.textContent = 'Live; earlier scores are missing'; });
events.onmessage = ({ data }) => {
  const { game, score } = JSON.parse(data);
  row(String(game)).textContent = String(score);
};
