//! Messages as the functions return them.

use bytes::Bytes;

/// A message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedEntry {
    /// Its packet identifier; 0 for QoS 0.
    pub id: u16,
    /// Its number in the order of all messages of the session.
    pub serial: u64,
    /// The quality of service of the delivery, as a number.
    pub qos: u8,
    /// When it was added, in Unix seconds.
    pub received: u64,
    /// The options of the subscription, as the node has passed them.
    pub options: Bytes,
    /// The message, as the node of its publisher has passed it.
    pub message: Bytes,
}

/// Decodes the messages of an answer: identifier, serial and value of each. `None` if it has another form.
pub fn entries(answer: &[Bytes]) -> Option<Vec<QueuedEntry>> {
    if !answer.len().is_multiple_of(3) {
        return None;
    }
    answer.chunks_exact(3).map(|parts| entry(&parts[0], &parts[1], &parts[2])).collect()
}

fn entry(id: &Bytes, serial: &Bytes, value: &Bytes) -> Option<QueuedEntry> {
    let end = value.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&value[..end]).ok()?;
    let mut words = head.split(' ');
    let (qos, received) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let length: usize = words.next()?.parse().ok()?;
    // The group of a shared subscription, which its node does not need.
    let group: usize = words.next().map_or(Some(0), |length| length.parse().ok())?;
    let options = end.checked_add(1)?;
    let group_at = options.checked_add(length)?;
    let message = group_at.checked_add(group).filter(|at| *at <= value.len())?;
    Some(QueuedEntry {
        id: number(id)?,
        serial: number(serial)?,
        qos,
        received,
        options: value.slice(options..group_at),
        message: value.slice(message..),
    })
}

fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_decoded_and_other_forms_are_refused() {
        let texts =
            |texts: &[&'static [u8]]| texts.iter().map(|text| Bytes::from_static(text)).collect::<Vec<_>>();
        let found = entries(&texts(&[b"7", b"65542", b"2 1700 3\n20\nm\n2"])).expect("an entry");
        let (options, message) = (Bytes::from_static(b"20\n"), Bytes::from_static(b"m\n2"));
        assert_eq!(found, [QueuedEntry { id: 7, serial: 65_542, qos: 2, received: 1700, options, message }]);
        let found = entries(&texts(&[b"1", b"1", b"1 1700 3 4\n10xgroupm"])).expect("an entry of a group");
        assert_eq!((&*found[0].options, &*found[0].message), (&b"10x"[..], &b"pm"[..]));
        for wrong in [
            &[b"7" as &[u8], b"1"][..],
            &[b"x", b"1", b"1 2 0\n"],
            &[b"1", b"1", b"1 2 9\nab"],
            &[b"1", b"1", b"1 2 1 9\nab"],
            &[b"1", b"1", b"1 2 1 x\nab"],
            &[b"1", b"1", b"1 2 0"],
        ] {
            assert_eq!(entries(&texts(wrong)), None, "{wrong:?}");
        }
    }
}
