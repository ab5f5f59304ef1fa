//! Links between documents.

use std::collections::{BTreeMap, BTreeSet};

use super::{pages, root, text};

/// Where the files of the repository are on the web. Links that leave the book begin with it.
const REPOSITORY: &str = "https://github.com/tidings-rs/tidings/";

/// The documents of the repository.
fn documents() -> Vec<String> {
    let folders = ["docs", "docs/concepts", "docs/guides", "docs/operations", "docs/migration"];
    let book = folders.into_iter().flat_map(pages);
    let root = pages(".").into_iter().map(|page| page.trim_start_matches("./").to_owned());
    book.chain(root).chain(["examples/README.md", "web/README.md"].map(str::to_owned)).collect()
}

/// The lines of a document outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// A line without the text of its code spans.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The targets of the links and images of a document.
fn targets(text: &str) -> Vec<String> {
    let lines = prose(text).map(without_code).collect::<Vec<_>>().join("\n");
    let target = |rest: &str| rest.split([')', ' ']).next().unwrap_or_default().to_owned();
    lines.split("](").skip(1).map(target).collect()
}

/// The anchors of a document, as GitHub and mdBook derive them from headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let slugs = headings.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug = kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>();
        let count = seen.entry(slug.clone()).or_default();
        *count += 1;
        if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
    });
    slugs.collect()
}

/// The reason why a link leads nowhere, if it does.
fn broken(document: &str, target: &str) -> Option<String> {
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if let Some(path) = path.strip_prefix(REPOSITORY) {
        // Other pages of the site are no files.
        path.strip_prefix("blob/main/").or_else(|| path.strip_prefix("tree/main/"))?.to_owned()
    } else if path.contains("://") || path.starts_with("mailto:") {
        return None;
    } else if path.is_empty() {
        document.to_owned()
    } else {
        let leaves = path.matches("../").count() > folder.matches('/').count();
        if folder.starts_with("docs") && leaves {
            return Some(format!("leaves the book: write {REPOSITORY}blob/main/…"));
        }
        format!("{folder}/{path}").trim_start_matches('/').to_owned()
    };
    if !root().join(&path).exists() {
        return Some("there is no such file".to_owned());
    }
    let missing = !anchor.is_empty() && !anchors(&text(&path)).contains(anchor);
    missing.then(|| "there is no such heading".to_owned())
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in documents() {
        for target in targets(&text(&document)) {
            if let Some(reason) = broken(&document, &target) {
                wrong.push(format!("{document}: {target}: {reason}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_book_lists_each_page_once() {
    let listed = targets(&text("docs/SUMMARY.md"));
    let unique: BTreeSet<_> = listed.iter().map(|page| format!("docs/{page}")).collect();
    assert_eq!(listed.len(), unique.len(), "a page is listed twice");
    let there =
        documents().into_iter().filter(|page| page.starts_with("docs/") && !page.ends_with("SUMMARY.md"));
    assert_eq!(there.collect::<BTreeSet<_>>(), unique);
}

#[test]
fn anchors_are_those_of_headings() {
    let page = "# A b: `c_d`!\n## A\n```sh\n# no heading\n```\n## A\n";
    assert_eq!(anchors(page), ["a-b-c_d", "a", "a-1"].map(str::to_owned).into());
    assert_eq!(targets("[a](b.md#c) `[x](y)` ![i](j.png)"), ["b.md#c", "j.png"]);
}
