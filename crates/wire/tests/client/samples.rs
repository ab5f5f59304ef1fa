//! Messages of the protocol with every field of every message, in JSON and in Protobuf.
//!
//! The Protobuf bytes were made with the schema of the Python SDK (`centrifuge-python` 0.7.0, `client_pb2`), so they
//! have the numbers and types of the SDKs.

/// Commands: the JSON text, and the Protobuf bytes in hexadecimal.
pub(crate) const COMMANDS: &[(&str, &str)] = &[
    (
        r#"{"id":1,"connect":{"token":"t","data":{"a":1},"subs":{"a":{"recover":true,"epoch":"e","offset":3},"b":{}},"name":"js","version":"5.8.0","headers":{"x":"y"},"flag":1}}"#,
        "080122360a017412077b2261223a317d1a0c0a01611207180132016538031a050a0162120022026a732a05352e382e30\
         32060a01781201793801",
    ),
    (r#"{"id":2,"subscribe":{"channel":"chat:42"}}"#, "08022a090a07636861743a3432"),
    (
        r#"{"id":128,"subscribe":{"channel":"news","token":"t","recover":true,"epoch":"xyz","offset":18446744073709551615,"data":"d","positioned":true,"recoverable":true,"join_leave":true,"delta":"fossil","flag":-1}}"#,
        "0880012a390a046e6577731201741801320378797a38ffffffffffffffffff0142032264224801500158016206666f73\
         73696c70ffffffffffffffffff01",
    ),
    (r#"{"id":3,"unsubscribe":{"channel":"a"}}"#, "080332030a0161"),
    (r#"{"id":4,"publish":{"channel":"a","data":[1.5,"x"]}}"#, "08043a0e0a016112095b312e352c2278225d"),
    (r#"{"id":5,"presence":{"channel":"a"}}"#, "080542030a0161"),
    (r#"{"id":6,"presence_stats":{"channel":"a"}}"#, "08064a030a0161"),
    (
        r#"{"id":7,"history":{"channel":"a","limit":-1,"since":{"offset":300,"epoch":"e"},"reverse":true}}"#,
        "080752180a016138ffffffffffffffffff01420608ac021201654801",
    ),
    (r#"{"id":8,"ping":{}}"#, "08085a00"),
    (r#"{"send":{"data":{"b":null}}}"#, "620c0a0a7b2262223a6e756c6c7d"),
    (r#"{"id":9,"rpc":{"data":null,"method":"m"}}"#, "08096a090a046e756c6c12016d"),
    (r#"{"id":10,"refresh":{"token":"t"}}"#, "080a72030a0174"),
    (r#"{"id":4294967295,"sub_refresh":{"channel":"a","token":"t"}}"#, "08ffffffff0f7a060a0161120174"),
    ("{}", ""),
];

/// Replies: the JSON text, and the Protobuf bytes in hexadecimal.
pub(crate) const REPLIES: &[(&str, &str)] = &[
    (
        r#"{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}"#,
        "0801121b08641215696e7465726e616c20736572766572206572726f721801",
    ),
    (
        r#"{"id":1,"connect":{"client":"c","version":"v","expires":true,"ttl":3600,"data":{"w":0},"subs":{"a":{"expires":true,"ttl":60,"recoverable":true,"epoch":"e","publications":[{"data":{"x":"é"},"info":{"user":"42","client":"c1","conn_info":{"n":1},"chan_info":[2]},"offset":7,"tags":{"k":"v"},"delta":true,"time":1700000000123,"channel":"w"},{"data":""}],"recovered":true,"offset":8,"positioned":true,"data":1,"was_recovering":true,"delta":true},"b":{}},"ping":25,"pong":true,"session":"s","node":"n","time":1700000000123}}"#,
        "08012a8b010a0163120176180120901c2a077b2277223a307d325d0a016112580801103c18013201653a3a220a7b2278\
         223a22c3a9227d2a160a023432120263311a077b226e223a317d22035b325d30073a060a016b120176400148fbd095ff\
         bc315201773a04220222224001480850015a01316001680132050a01621200381940014a017352016e58fbd095ffbc31",
    ),
    (
        r#"{"id":2,"subscribe":{"expires":true,"ttl":60,"recoverable":true,"epoch":"e","publications":[{"data":{"x":"é"},"info":{"user":"42","client":"c1","conn_info":{"n":1},"chan_info":[2]},"offset":7,"tags":{"k":"v"},"delta":true,"time":1700000000123,"channel":"w"},{"data":""}],"recovered":true,"offset":8,"positioned":true,"data":1,"was_recovering":true,"delta":true}}"#,
        "080232580801103c18013201653a3a220a7b2278223a22c3a9227d2a160a023432120263311a077b226e223a317d2203\
         5b325d30073a060a016b120176400148fbd095ffbc315201773a04220222224001480850015a013160016801",
    ),
    (r#"{"id":2,"subscribe":{}}"#, "08023200"),
    (r#"{"id":3,"unsubscribe":{}}"#, "08033a00"),
    (r#"{"id":4,"publish":{}}"#, "08044200"),
    (
        r#"{"id":5,"presence":{"presence":{"c1":{"user":"42","client":"c1","conn_info":{"n":1},"chan_info":[2]},"c2":{"user":"","client":"c2"}}}}"#,
        "08054a2a0a1c0a02633112160a023432120263311a077b226e223a317d22035b325d0a0a0a026332120412026332",
    ),
    (r#"{"id":5,"presence":{"presence":{}}}"#, "08054a00"),
    (r#"{"id":6,"presence_stats":{"num_clients":2,"num_users":0}}"#, "080652020802"),
    (
        r#"{"id":7,"history":{"publications":[{"data":{"x":"é"},"info":{"user":"42","client":"c1","conn_info":{"n":1},"chan_info":[2]},"offset":7,"tags":{"k":"v"},"delta":true,"time":1700000000123,"channel":"w"}],"epoch":"e","offset":7}}"#,
        "08075a410a3a220a7b2278223a22c3a9227d2a160a023432120263311a077b226e223a317d22035b325d30073a060a01\
         6b120176400148fbd095ffbc315201771201651807",
    ),
    (r#"{"id":7,"history":{"publications":[],"epoch":"","offset":0}}"#, "08075a00"),
    (r#"{"id":8,"ping":{}}"#, "08086200"),
    (r#"{"id":9,"rpc":{"data":"ok"}}"#, "08096a060a04226f6b22"),
    (
        r#"{"id":10,"refresh":{"client":"c","version":"v","expires":true,"ttl":9}}"#,
        "080a720a0a016312017618012009",
    ),
    (r#"{"id":11,"sub_refresh":{"expires":true,"ttl":9}}"#, "080b7a0408011009"),
    (
        r#"{"push":{"channel":"a","pub":{"data":{"x":"é"},"info":{"user":"42","client":"c1","conn_info":{"n":1},"chan_info":[2]},"offset":7,"tags":{"k":"v"},"delta":true,"time":1700000000123,"channel":"w"}}}"#,
        "223f120161223a220a7b2278223a22c3a9227d2a160a023432120263311a077b226e223a317d22035b325d30073a060a\
         016b120176400148fbd095ffbc31520177",
    ),
    (
        r#"{"push":{"channel":"a","join":{"info":{"user":"42","client":"c1","conn_info":{"n":1},"chan_info":[2]}}}}"#,
        "221d1201612a180a160a023432120263311a077b226e223a317d22035b325d",
    ),
    (
        r#"{"push":{"channel":"a","leave":{"info":{"user":"42","client":"c1","conn_info":{"n":1},"chan_info":[2]}}}}"#,
        "221d12016132180a160a023432120263311a077b226e223a317d22035b325d",
    ),
    (
        r#"{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#,
        "221c1201613a1710c4131a12696e73756666696369656e74207374617465",
    ),
    (r#"{"push":{"message":{"data":{"m":true}}}}"#, "220e420c0a0a7b226d223a747275657d"),
    (
        r#"{"push":{"channel":"a","subscribe":{"recoverable":true,"epoch":"e","offset":5,"positioned":true,"data":{}}}}"#,
        "22121201614a0d0801220165280530013a027b7d",
    ),
    (
        r#"{"push":{"connect":{"client":"c","version":"v","data":{},"subs":{"a":{}},"expires":true,"ttl":3600,"ping":25,"pong":true,"session":"s","node":"n","time":1700000000123}}}"#,
        "222952270a01631201761a027b7d22050a01611200280130901c381940014a017352016e58fbd095ffbc31",
    ),
    (
        r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown","reconnect":true}}}"#,
        "22115a0f08b917120873687574646f776e1801",
    ),
    (r#"{"push":{"refresh":{"expires":true,"ttl":60}}}"#, "220662040801103c"),
    ("{}", ""),
];
