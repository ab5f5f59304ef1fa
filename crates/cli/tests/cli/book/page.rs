//! The fenced blocks of a page, with the comment in front of each.

/// The comment in front of a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Directive {
    NotRun,
    File(String),
    Server,
    Background { name: String, until: Option<String> },
    Output(String),
    Repeat,
    Lines,
}

/// A fenced block.
#[derive(Debug)]
pub(crate) struct Block {
    /// Where its text begins in the page, counted from 1.
    pub(crate) line: usize,
    pub(crate) language: String,
    pub(crate) text: String,
    pub(crate) directive: Option<Directive>,
    /// Whether only empty lines are between the block before and this one.
    pub(crate) follows: bool,
}

impl Block {
    /// Whether it is the output of the block before it.
    pub(crate) fn is_output(&self) -> bool {
        self.follows && self.directive.is_none() && matches!(self.language.as_str(), "text" | "json")
    }
}

/// The blocks of a page, in order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    let (mut directive, mut follows) = (None, false);
    while let Some((at, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            blocks.push(Block {
                line: at + 2,
                language: language.to_owned(),
                text: text.join("\n"),
                directive: directive.take(),
                follows,
            });
            follows = true;
        } else if let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            directive = read(comment);
            follows &= directive.is_some();
        } else if !line.is_empty() {
            assert!(
                !line.trim_start().starts_with("```"),
                "line {}: an indented block is not tested",
                at + 1
            );
            (directive, follows) = (None, false);
        }
    }
    blocks
}

/// Reads a comment; other comments than the directives are none.
fn read(comment: &str) -> Option<Directive> {
    let (word, rest) = comment.split_once(": ").unwrap_or((comment, ""));
    Some(match word {
        "not run" => Directive::NotRun,
        "file" => Directive::File(rest.to_owned()),
        "server" => Directive::Server,
        "background" => match rest.split_once(", until ") {
            Some((name, until)) => {
                Directive::Background { name: name.to_owned(), until: Some(until.to_owned()) }
            }
            None => Directive::Background { name: rest.to_owned(), until: None },
        },
        "output" => Directive::Output(rest.to_owned()),
        "repeat" => Directive::Repeat,
        "lines" => Directive::Lines,
        _ => return None,
    })
}
