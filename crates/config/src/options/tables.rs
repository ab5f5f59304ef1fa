//! Shared live tables and their store.

use std::time::Duration;

use tidings_auth::Secret;

use super::{GIB, HOUR, SECOND};
use crate::group::group;
use crate::proxy::HttpUrl;
use crate::setting::{MaxLength, bytes, count, millis};
use crate::value::{AllowUpload, TableFeeds, TablesStore};

group! {
    /// Shared live tables: files that users upload and view together.
    pub struct TablesOptions {
        /// Whether tables are enabled.
        enabled: bool = "true", ();
        /// Clients that may create tables and upload files: `anyone`; `token`, clients with a connection token, and
        /// users that the connect hook accepts; `key`, backends with `http_api.key`. The owner's secret always permits
        /// uploads to the owner's table. The claim `"tables": {"upload": true}` of a connection token, or that field in
        /// the result of the connect hook, always grants the permission; `false` denies it. `auto` is `anyone` while no
        /// key is configured, and `token` otherwise.
        allow_upload: AllowUpload = "auto", (), reload;
        /// Largest file that may be uploaded, in bytes as received. Its text, decompressed and in UTF-8, may be four
        /// times as large; the text of an open file that is compressed or not in UTF-8 counts towards
        /// `tables.max_total`, too.
        max_size: usize = "1GiB", bytes(1, 1024 * GIB);
        /// Largest ratio of decompressed to received bytes of a compressed file. The first 16 MiB of text are always
        /// allowed.
        max_unpack_ratio: usize = "100", count(1, 1_000_000);
        /// Lowest data rate of an upload and of a download of a view while others wait for a permit, in bytes per
        /// second: the slowest transfer below it is ended. With 0 only transfers without any progress are ended.
        min_data_rate: usize = "8192", count(0, 1_000_000_000);
        /// Longest pause within an upload, after which it is aborted. Other uploads to the same table wait meanwhile.
        upload_timeout: Duration = "60s", millis(SECOND, HOUR);
        /// Time for which a table without viewers is stored.
        keep: Duration = "24h", millis(SECOND, 366 * 24 * HOUR);
        /// Time for which a file that was replaced in a table can be restored. Its bytes count towards
        /// `tables.max_total` meanwhile. With 0 it is removed at once.
        keep_previous: Duration = "10m", millis(0, 24 * HOUR);
        /// Bound of the files of all tables together, with the decompressed text of open files, and
        /// with removed files that are still read. At the bound, tables without viewers are evicted, the least recently
        /// used first; when all are in use, uploads are refused.
        max_total: usize = "10GiB", bytes(1, 1024 * 1024 * GIB);
        /// Bound of the files that one user has uploaded, on this node. At the bound, that user's own tables without
        /// viewers are evicted; then uploads are refused. 0 is half of `tables.max_total`.
        user_max_total: usize = "0", bytes(0, 1024 * 1024 * GIB), reload;
        /// The same for uploads without a user, by the client's address (one /64 network of IPv6). 0 is half of
        /// `tables.max_total`, and no limit for loopback addresses.
        address_max_total: usize = "0", bytes(0, 1024 * 1024 * GIB), reload;
        /// Most uploads of one user at a time. The limit of all uploads together is 64.
        user_upload_limit: usize = "16", count(1, 64), reload;
        /// The same for uploads without a user, by the client's address. 0 is 16, and no limit for loopback addresses.
        address_upload_limit: usize = "0", count(0, 64), reload;
        /// Most downloads of views of one address (one /64 network of IPv6) at a time. The limit of all of them together is
        /// 32. 0 is 8, and no limit for loopback addresses.
        address_download_limit: usize = "0", count(0, 32), reload;
        /// Whether downloads of views put an apostrophe before cells that a spreadsheet would evaluate as formulas:
        /// those that begin with `=`, `+`, `-`, `@`, a tab or a carriage return. Numbers (`-5`, `+3.2`) are not
        /// changed, nor is the download of the uploaded file.
        disarm_formulas: bool = "true", ();
        /// Where tables are stored: a folder, or `s3://BUCKET/PREFIX` (see `tables.s3`). Several nodes that use the
        /// same Redis may share either. The default is the folder `tables` in `data_dir`; without that, a temporary one
        /// that is removed with the server. With a bucket, copies of viewed tables are stored in `tables.cache` in
        /// `data_dir` (without that, in a temporary folder), and `tables.max_total` applies to the copies of each node
        /// and to the bucket.
        store: Option<TablesStore> = "", ();
        /// Channels whose publications make a table: `[{channel = "prices", key = ["symbol"]}]`. A publication that is a
        /// JSON object is a row with the columns of its members, and replaces the row with the same members `key`. The
        /// server subscribes itself, whatever the permissions of clients. `name` is the table's name (by default the
        /// channel's), `max_rows` its most rows (100000 by default, at most 3500000: the keys of all tables have 256 MiB of
        /// memory together). At most 64 channels. The log has the link of each table at the start. Not with a bucket in
        /// `tables.store`.
        from_channel: TableFeeds = "", ();
    }
    groups {
        /// The bucket of `tables.store`, in S3 or a store with the same protocol that honours `If-Match` and
        /// `If-None-Match` of writes. Options that are not given here are taken from the usual variables
        /// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …),
        /// and credentials otherwise from the role of the machine or the container.
        s3: TablesS3Options;
    }
}

group! {
    /// The bucket of `tables.store`, in S3 or a store with the same protocol that honours `If-Match` and
    /// `If-None-Match` of writes. Options that are not given here are taken from the usual variables
    /// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …), and
    /// credentials otherwise from the role of the machine or the container.
    pub struct TablesS3Options {
        /// URL of the store, when it is not Amazon's: `https://minio.example.com:9000`.
        endpoint: Option<HttpUrl> = "", "https://minio.example.com:9000";
        /// Region of the bucket; the default is the variable's, or `us-east-1`.
        region: String = "", MaxLength(64);
        /// Whether plain HTTP to the store is accepted. Everyone on the network path can then read and change tables.
        allow_http: bool = "false", ();
        /// Whether the name of the bucket is part of the host name (`https://BUCKET.HOST/…`) instead of the path
        /// (`https://HOST/BUCKET/…`). An `endpoint` then contains the name.
        virtual_hosted_style: bool = "false", ();
        /// Id of the key that signs requests; with `tables.s3.secret_access_key`.
        access_key_id: String = "", MaxLength(1024);
        /// Secret of the key that signs requests; with `tables.s3.access_key_id`.
        secret_access_key: Secret = "", ();
        /// Longest time for one request to the store, with a part of a file (8 MiB, more for files above 70 GiB), and
        /// longest pause in a response. Idempotent requests are then retried, at most three times and for no longer
        /// than this time.
        timeout: Duration = "20s", millis(100, HOUR);
    }
}
