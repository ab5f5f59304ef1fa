//! Hash slots: the part of a cluster that a name belongs to.
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>)

/// Number of hash slots.
pub(super) const SLOTS: u16 = 16_384;

/// CRC16 in the variant of XMODEM, for each value of the byte that is shifted out.
const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    const POLYNOMIAL: u16 = 0x1021;
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ POLYNOMIAL };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

/// The slot of a key or of a sharded channel.
pub(super) fn slot(name: &[u8]) -> u16 {
    let crc =
        hashed(name).iter().fold(0_u16, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]);
    crc % SLOTS
}

/// The part of a name that decides its slot: the text between the first brace and the next closing one, if it is not
/// empty, else the whole name.
pub(super) fn hashed(name: &[u8]) -> &[u8] {
    let tag = name.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &name[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    tag.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The check value of the polynomial, and what `CLUSTER KEYSLOT` of Redis 7 answers.
        for (name, expected) in
            [("123456789", 0x31c3 % SLOTS), ("a", 15_495), ("foo", 12_182), ("", 0), ("x{a}y", 15_495)]
        {
            assert_eq!(slot(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_tag_is_the_text_in_the_first_braces() {
        for (name, part) in
            [("a{b}c", "b"), ("{}{b}", "{}{b}"), ("a{b", "a{b"), ("{{b}}", "{b"), ("a}{b}", "b")]
        {
            assert_eq!(hashed(name.as_bytes()), part.as_bytes(), "{name}");
        }
    }
}
