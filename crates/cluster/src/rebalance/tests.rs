use super::*;

const TICK: Duration = Duration::from_millis(250);

/// Selects a node for the client that the node `from` has moved, by the connections of the nodes.
type Balancer = fn(&mut fastrand::Rng, from: usize, connections: &[u64]) -> usize;

fn least_connections(_: &mut fastrand::Rng, _: usize, connections: &[u64]) -> usize {
    (0..connections.len()).min_by_key(|node| connections[*node]).expect("a node")
}

fn at_random(random: &mut fastrand::Rng, _: usize, connections: &[u64]) -> usize {
    random.usize(..connections.len())
}

fn by_address(_: &mut fastrand::Rng, from: usize, _: &[u64]) -> usize {
    from
}

struct Node {
    rebalancer: Rebalancer,
    clients: u64,
    moved: u64,
    returned: u64,
    ready: Option<bool>,
    /// The clients that are still to be moved, and the time for them.
    order: (u64, Instant),
    announced: (u64, u64, Option<bool>, Instant),
    /// No announcements of this node arrive.
    is_cut_off: bool,
}

/// Nodes that announce themselves every three seconds at different times, and clients that reconnect after up to two
/// seconds.
struct World {
    nodes: Vec<Node>,
    balancer: Balancer,
    now: Instant,
    start: Instant,
    away: Vec<(Instant, usize)>,
    random: fastrand::Rng,
    /// The largest number of connections of a node that has received clients.
    largest: u64,
}

impl World {
    fn new(clients: &[u64], limits: RebalanceLimits, balancer: Balancer) -> Self {
        let now = Instant::now();
        let node = |clients: &u64| Node {
            rebalancer: Rebalancer::new(limits, now),
            clients: *clients,
            moved: 0,
            returned: 0,
            ready: Some(true),
            order: (0, now),
            announced: (*clients, 0, Some(true), now),
            is_cut_off: false,
        };
        let nodes = clients.iter().map(node).collect();
        let random = fastrand::Rng::with_seed(42);
        Self { nodes, balancer, now, start: now, away: Vec::new(), random, largest: 0 }
    }

    fn seconds(&self) -> f64 {
        (self.now - self.start).as_secs_f64()
    }

    fn moved(&self) -> u64 {
        self.nodes.iter().map(|node| node.moved).sum()
    }

    fn clients(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.clients).collect()
    }

    fn move_client(&mut self, from: usize) {
        self.nodes[from].clients -= 1;
        self.nodes[from].moved += 1;
        let delay = Duration::from_millis(self.random.u64(100..2_000));
        self.away.push((self.now + delay, from));
    }

    fn tick(&mut self) {
        self.now += TICK;
        let now = self.now;
        for (_, from) in self.away.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            let connections: Vec<u64> = self.nodes.iter().map(|node| node.clients).collect();
            let to = (self.balancer)(&mut self.random, from, &connections);
            self.nodes[to].clients += 1;
            self.nodes[to].returned += u64::from(to == from);
        }
        let tick = (now - self.start).as_millis() / TICK.as_millis();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if !node.is_cut_off && (tick + 5 * at as u128).is_multiple_of(12) {
                node.announced = (node.clients, node.rebalancer.moving(), node.ready, now);
            }
        }
        for at in 0..self.nodes.len() {
            let (left, until) = self.nodes[at].order;
            let ticks = ((until.saturating_duration_since(now)).as_millis() / TICK.as_millis()) as u64 + 1;
            for _ in 0..left.div_ceil(ticks) {
                self.move_client(at);
            }
            self.nodes[at].order.0 -= left.div_ceil(ticks);
            let others: Vec<NodeLoad> = (0..self.nodes.len())
                .filter(|other| *other != at)
                .map(|other| {
                    let (clients, moving, ready, when) = self.nodes[other].announced;
                    NodeLoad { uid: other.to_string(), clients, moving, ready, age: now - when }
                })
                .collect();
            let node = &mut self.nodes[at];
            let step = node.rebalancer.step(&Observation {
                now,
                is_ready: node.ready == Some(true),
                clients: node.clients,
                moved: node.moved,
                returned: node.returned,
                others: &others,
            });
            match step {
                Step::Wait => {}
                Step::Move(clients, over) => node.order = (clients as u64, now + over),
                Step::End => node.order = (0, now),
            }
        }
        self.largest = self.largest.max(self.nodes.last().map_or(0, |node| node.clients));
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.tick();
        }
    }

    /// Runs until every node has its share within a tenth, and returns the seconds.
    fn run_until_balanced(&mut self, most: f64) -> f64 {
        loop {
            self.tick();
            let average = self.clients().iter().sum::<u64>() as f64 / self.nodes.len() as f64;
            let is_balanced =
                self.clients().iter().all(|clients| (*clients as f64 - average).abs() <= average / 10.0);
            if is_balanced && self.away.is_empty() && self.nodes.iter().all(|node| node.order.0 == 0) {
                return self.seconds();
            }
            assert!(self.seconds() < most, "{:?} after {most} s, {} moved", self.clients(), self.moved());
        }
    }
}

fn limits(rate: f64) -> RebalanceLimits {
    RebalanceLimits { rate, total: u64::MAX, tolerance: 0.1, settle: Duration::from_secs(5) }
}

#[test]
fn a_node_that_joins_gets_its_share_at_the_rate_and_the_nodes_stay_as_they_are() {
    for (nodes, rate) in [(1, 100.0), (2, 100.0), (2, 1_000.0), (5, 300.0), (29, 300.0)] {
        let mut clients = vec![3_000; nodes];
        clients.push(0);
        let share = 3_000 * nodes as u64 / (nodes as u64 + 1);
        let mut world = World::new(&clients, limits(rate), least_connections);
        let needed = share as f64 / rate;
        // The wait, the pauses between rounds, and two measurements.
        world.run_until_balanced(5.0 + needed * 1.5 + 25.0);
        assert!(world.seconds() > needed, "at most {rate} per second");
        world.run(120);
        let moved = world.moved();
        assert!(moved <= share + share / 20, "{moved} clients moved for a share of {share}");
        assert!(world.largest <= share + share / 20, "{} clients on the new node", world.largest);
        world.run(120);
        assert_eq!(world.moved(), moved, "no client is moved between nodes with equal shares");
        assert!(world.nodes.iter().all(|node| node.rebalancer.state() == RebalanceState::Balanced));
    }
}

#[test]
fn a_balancer_that_selects_nodes_at_random_leads_to_equal_shares_too() {
    for clients in [&[4_000, 0][..], &[2_000, 2_000, 0]] {
        let mut world = World::new(clients, limits(200.0), at_random);
        world.run_until_balanced(240.0);
        let moved = world.moved();
        world.run(600);
        // The nodes go on from a tenth above the average to equal shares, and a part of the clients returns.
        let most = clients.iter().sum::<u64>() / 10;
        assert!(world.moved() - moved < most, "{} clients moved without need", world.moved() - moved);
    }
}

#[test]
fn a_balancer_that_returns_clients_is_noticed_and_no_more_clients_are_moved() {
    let mut world = World::new(&[2_000, 2_000, 100], limits(100.0), by_address);
    world.run(300);
    assert!(world.moved() >= 2 * EVIDENCE && world.moved() < 600, "{}", world.moved());
    assert_eq!(world.nodes[0].rebalancer.state(), RebalanceState::Stopped);
    assert_eq!(world.clients(), [2_000, 2_000, 100]);
}

#[test]
fn small_differences_move_no_client() {
    for clients in [&[1_050, 1_000, 950][..], &[2, 1, 1], &[1, 0, 0], &[0, 0, 0], &[5]] {
        let mut world = World::new(clients, limits(100.0), least_connections);
        world.run(60);
        assert_eq!(world.moved(), 0, "{clients:?}");
    }
}

#[test]
fn no_client_is_moved_while_a_node_is_not_ready_has_an_earlier_version_or_is_silent() {
    let troubles: [fn(&mut Node); 4] = [
        |node| node.ready = Some(false),
        |node| node.ready = None,
        |node| node.is_cut_off = true,
        |node| node.is_cut_off = true,
    ];
    for (index, trouble) in troubles.into_iter().enumerate() {
        let mut world = World::new(&[2_000, 2_000, 0], limits(50.0), least_connections);
        // The trouble begins before a round, or during one.
        let begins_at = if index == 3 { 20 } else { 0 };
        world.run(begins_at);
        assert_eq!(world.moved() > 0, begins_at > 0);
        trouble(&mut world.nodes[2]);
        // The announcement is up to three seconds late, and overdue after five.
        world.run(6);
        let moved = world.moved();
        world.run(120);
        assert_eq!(world.moved(), moved, "trouble {index}");
        assert_eq!(world.nodes[0].rebalancer.state(), RebalanceState::Paused);
        world.nodes[2].ready = Some(true);
        world.nodes[2].is_cut_off = false;
        world.run(5);
        assert_eq!(world.moved(), moved, "the wait begins again");
        world.run_until_balanced(300.0);
    }
}

#[test]
fn a_node_that_is_not_ready_itself_moves_no_client() {
    let mut world = World::new(&[2_000, 0], limits(50.0), least_connections);
    world.run(15);
    assert_eq!(world.nodes[0].rebalancer.state(), RebalanceState::Moving);
    world.nodes[0].ready = Some(false);
    world.tick();
    let moved = world.moved();
    world.run(60);
    assert_eq!(world.moved(), moved);
}

#[test]
fn the_limit_ends_rebalancing_until_the_set_of_nodes_changes() {
    let limits = RebalanceLimits { total: 100, ..limits(50.0) };
    let mut world = World::new(&[2_000, 0], limits, least_connections);
    world.run(120);
    assert_eq!((world.moved(), world.nodes[0].rebalancer.state()), (100, RebalanceState::Stopped));
}

#[test]
fn clients_that_cannot_be_moved_do_not_block_the_others() {
    // The shards move no client of the first node: its rounds end without effect.
    let mut world = World::new(&[2_000, 2_000, 0], limits(100.0), least_connections);
    for _ in 0..480 {
        world.nodes[0].order.0 = 0;
        world.tick();
    }
    assert_eq!(world.nodes[0].moved, 0);
    assert_eq!(world.nodes[0].rebalancer.state(), RebalanceState::Moving);
    assert!(world.nodes[1].moved >= 600, "{}", world.nodes[1].moved);
}
