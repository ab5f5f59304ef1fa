//! The owners of hash slots, merged from the responses of several cluster nodes; no I/O.
//!
//! Each node responds to `CLUSTER NODES` with one line for each known node. Where two nodes disagree, the claim with
//! the higher configuration epoch wins, as among the nodes themselves.

use std::collections::HashMap;

use crate::redis::addr::Addr;
use crate::redis::slots::SLOTS;

/// The response of one node.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::redis) struct View {
    nodes: Vec<Node>,
}

#[derive(Debug, PartialEq, Eq)]
struct Node {
    addr: Addr,
    primary: bool,
    failing: bool,
    epoch: u64,
    slots: Vec<(u16, u16)>,
}

impl View {
    /// Parses the response to `CLUSTER NODES` of the node at `from`; ignores lines in another format. With `names`,
    /// nodes that announce a host name are identified by it: a certificate can only be verified against a name.
    pub(in crate::redis) fn read(text: &str, from: &Addr, names: bool) -> Self {
        Self { nodes: text.lines().filter_map(|line| Node::read(line, from, names)).collect() }
    }
}

impl Node {
    /// Parses `id ip:port@bus[,hostname…] flags primary ping pong epoch link slot…`
    /// (<https://redis.io/docs/latest/commands/cluster-nodes/>).
    fn read(line: &str, from: &Addr, names: bool) -> Option<Self> {
        let mut words = line.split(' ');
        let (address, flags) = (words.nth(1)?, words.next()?);
        let epoch = words.nth(3)?.parse().ok()?;
        let has = |flag: &str| flags.split(',').any(|f| f == flag);
        if has("noaddr") || has("handshake") {
            return None;
        }
        let mut parts = address.split(',');
        let (address, _) = parts.next()?.split_once('@')?;
        let mut addr =
            if has("myself") { Addr::read(address, &from.host)? } else { Addr::read(address, "")? };
        let hostname = parts.find(|part| !part.is_empty() && !part.contains('='));
        if let Some(hostname) = hostname.filter(|_| names) {
            addr.host = hostname.into();
        }
        let range = |word: &str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last && last < SLOTS).then_some((first, last))
        };
        // Behind the state of the link. Slots that are being moved are in brackets, and still belong to their owner.
        let slots = words.skip(1).filter_map(range).collect();
        Some(Self { addr, primary: has("master"), failing: has("fail"), epoch, slots })
    }
}

/// Nodes, and owners of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::redis) struct Topology {
    /// Every primary that responds or has slots, in the order of their addresses.
    pub(in crate::redis) primaries: Vec<Addr>,
    /// Every node that responds.
    pub(in crate::redis) nodes: Vec<Addr>,
    /// For each slot the index of its owner in `primaries` plus one; zero without an owner. Empty at first.
    owners: Vec<u16>,
}

impl Topology {
    /// Merges the responses of several nodes.
    pub(in crate::redis) fn merge(views: &[View]) -> Self {
        let mut owners: Vec<Option<(u64, &Addr)>> = vec![None; usize::from(SLOTS)];
        let mut known: HashMap<&Addr, (u64, bool, bool)> = HashMap::new();
        for node in views.iter().flat_map(|view| &view.nodes) {
            let newest = known.entry(&node.addr).or_insert((node.epoch, node.primary, node.failing));
            if node.epoch > newest.0 {
                (newest.0, newest.1) = (node.epoch, node.primary);
            }
            // A node that any other node reaches is not failing.
            newest.2 &= node.failing;
            for (first, last) in node.slots.iter().filter(|_| node.primary) {
                for owner in &mut owners[usize::from(*first)..=usize::from(*last)] {
                    if owner.is_none_or(|(epoch, _)| epoch < node.epoch) {
                        *owner = Some((node.epoch, &node.addr));
                    }
                }
            }
        }
        let mut primaries: Vec<Addr> = owners.iter().flatten().map(|(_, addr)| (*addr).clone()).collect();
        let working = known.iter().filter(|(_, (_, primary, failing))| *primary && !failing);
        primaries.extend(working.map(|(addr, _)| (*addr).clone()));
        primaries.sort();
        primaries.dedup();
        let mut nodes: Vec<_> =
            known.iter().filter(|(_, known)| !known.2).map(|(addr, _)| (*addr).clone()).collect();
        nodes.sort();
        let number = |addr: &Addr| primaries.binary_search(addr).map_or(0, |at| at as u16 + 1);
        let owners = owners.iter().map(|owner| owner.map_or(0, |(_, addr)| number(addr))).collect();
        Self { primaries, nodes, owners }
    }

    /// The primary of a slot, if it has one.
    pub(in crate::redis) fn owner(&self, slot: u16) -> Option<&Addr> {
        let number = *self.owners.get(usize::from(slot))?;
        self.primaries.get(usize::from(number.checked_sub(1)?))
    }

    /// Whether a node has any slot.
    pub(in crate::redis) fn serves(&self, addr: &Addr) -> bool {
        let number = self.primaries.binary_search(addr).map_or(0, |at| at as u16 + 1);
        number > 0 && self.owners.contains(&number)
    }

    /// Records the owner of a slot, if it is a known primary.
    pub(in crate::redis) fn set(&mut self, slot: u16, addr: &Addr) {
        if let (Ok(at), Some(owner)) =
            (self.primaries.binary_search(addr), self.owners.get_mut(usize::from(slot)))
        {
            *owner = at as u16 + 1;
        }
    }

    /// Whether every slot has a primary.
    pub(in crate::redis) fn is_whole(&self) -> bool {
        !self.owners.is_empty() && self.owners.iter().all(|owner| *owner > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: &str = "\
aa 127.0.0.1:1@11 myself,master - 0 0 1 connected 0-5460
bb 127.0.0.1:2@12,b.example,shard-id=x master - 0 0 2 connected 5461 5462-10922 [5461->-cc]
cc 127.0.0.1:3@13, master - 0 0 3 connected 10923-16383
dd 127.0.0.1:4@14 slave aa 0 0 1 connected
ee :0@0 master,noaddr - 0 0 9 disconnected 0-16383
something else
";

    fn at(port: u16) -> Addr {
        Addr::new("127.0.0.1", port)
    }

    fn view(text: &str) -> View {
        View::read(text, &at(1), false)
    }

    #[test]
    fn slots_belong_to_the_nodes_that_report_them() {
        let topology = Topology::merge(&[view(CALM)]);
        assert_eq!(topology.primaries, [at(1), at(2), at(3)]);
        assert_eq!(topology.nodes, [at(1), at(2), at(3), at(4)]);
        assert!(topology.is_whole());
        for (slot, port) in [(0, 1), (5460, 1), (5461, 2), (10_922, 2), (16_383, 3)] {
            assert_eq!(topology.owner(slot), Some(&at(port)), "{slot}");
        }
    }

    #[test]
    fn a_contested_slot_belongs_to_the_claim_with_the_higher_epoch() {
        // The failed primary still claims its slots; its replica has been elected.
        let after = CALM
            .replace("myself,master - 0 0 1 connected 0-5460", "master,fail - 0 0 1 connected")
            .replace("slave aa 0 0 1 connected", "myself,master - 0 0 4 connected 0-5460");
        for views in [[view(CALM), view(&after)], [view(&after), view(CALM)]] {
            let topology = Topology::merge(&views);
            assert_eq!(topology.owner(7), Some(&at(4)));
            assert!(topology.is_whole());
        }
        let alone = Topology::merge(&[view(&after)]);
        assert_eq!(alone.primaries, [at(2), at(3), at(4)], "the failed one has nothing any more");
    }

    #[test]
    fn a_topology_with_an_unowned_slot_is_incomplete_and_the_initial_one_is_empty() {
        let topology = Topology::merge(&[view(&CALM.replace("0-5460", "1-5460"))]);
        assert!(!topology.is_whole());
        assert_eq!(topology.owner(0), None);
        assert_eq!(topology.owner(1), Some(&at(1)));
        assert!(!Topology::default().is_whole());
        assert_eq!(Topology::default().owner(1), None);
    }

    #[test]
    fn a_redirection_changes_the_owner_of_a_slot() {
        let mut topology = Topology::merge(&[view(CALM)]);
        topology.set(5, &at(3));
        topology.set(6, &at(9));
        assert_eq!((topology.owner(5), topology.owner(6)), (Some(&at(3)), Some(&at(1))));
    }

    #[test]
    fn addresses_are_read_as_redis_writes_them() {
        for (text, host, port) in
            [("10.0.0.1:7", "10.0.0.1", 7), ("::1:7", "::1", 7), (":7", "me", 7), ("?:7", "me", 7)]
        {
            assert_eq!(Addr::read(text, "me"), Some(Addr::new(host, port)), "{text}");
        }
        assert_eq!(Addr::read("nothing", "me"), None);
        assert_eq!(Addr::new("::1", 7).to_string(), "[::1]:7");
        let named = View::read(CALM, &at(1), true);
        assert_eq!(Topology::merge(&[named]).owner(5461), Some(&Addr::new("b.example", 2)));
    }
}
