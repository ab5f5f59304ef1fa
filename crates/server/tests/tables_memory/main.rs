//! What an upload takes of memory: in a process of its own, which is the server and its only client.

#[path = "../tables/world.rs"]
#[expect(dead_code, reason = "the world of the other tests of tables")]
mod world;

use serde_json::json;
use tidings_wire::ws::Opcode;

use world::World;

/// How much more memory the server may have in use than before.
const MORE: u64 = 64 << 20;

/// The most memory that this process has ever had in use, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_file_of_200_mb_is_never_in_memory() {
    let world = World::with(&[]);
    let rows: String =
        (0..20_000).map(|row| format!("{row}\tsome text\t{}\tmore of it\n", row * 7)).collect();
    let chunk = &rows.as_bytes()[..1 << 19];
    let count = (200 << 20) / chunk.len();
    // In chunks, and as the article's page does it: all of it in one message.
    let mut viewer = world.viewer("/tables/ws");
    world.get("/health");
    let before = peak();
    viewer.send(&json!({"upload": {"name": "big.tsv", "size": count * chunk.len()}}));
    for _ in 0..count {
        viewer.binary(chunk);
    }
    viewer.send(&json!({"upload_end": {}}));
    let view = viewer.view(|view| view["loading"] == false);
    assert_eq!(view["size"], count * chunk.len());
    let mut article = world.viewer("/parser/ws");
    for at in 0..count {
        let opcode = if at == 0 { Opcode::Binary } else { Opcode::Continuation };
        article.frame(at + 1 == count, opcode, chunk);
    }
    article.view(|view| view["loading"] == false);
    // Any page of it, and an order of its rows.
    viewer.send(&json!({"page": view["total_number"].as_u64().expect("a number") / 200}));
    viewer.view(|now| now["page_no"] != 1);
    let more = peak() - before;
    assert!(more < MORE, "{} MiB more than before", more >> 20);
}
