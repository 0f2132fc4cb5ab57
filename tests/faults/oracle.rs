//! The oracle: checks what an image may contain against the reports of its clients.
//!
//! A block contains the last data known to be durable (`base`), or a later write. A successful
//! flush or close makes durable what was acknowledged before it began. A failed one reports the
//! loss: writes acknowledged since the last flush may be missing. A killed client gets no report,
//! so any of its writes since the last flush may be there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::journal::{Content, Kind, Line};
use crate::weather::Weather;

/// A violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Wrong {
    /// A block contains data that it must not.
    Lost,
    /// An image did not answer in time, so it was not compared.
    Unchecked,
    /// An error that no fault explains, or that names another object.
    Error,
    /// An operation or the end of a client takes too long.
    Hang,
    /// A client ended without a reason.
    Died,
    /// A client uses more threads, descriptors or memory than before.
    Grown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sent,
    Acked(u64),
    /// The write failed. It may still take effect, even after a later one.
    Failed,
    /// The write was acknowledged, and then reported as possibly lost.
    Doubtful,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    id: u64,
    content: u64,
    state: State,
}

#[derive(Debug, Clone)]
struct Block {
    base: Content,
    /// The operation that made it durable.
    by: &'static str,
    /// A shrink cut it off, so anything may be there.
    any: bool,
    since: Vec<Written>,
}

struct Pending {
    kind: Kind,
    block: u64,
    count: u64,
    began: Instant,
    order: u64,
}

pub(crate) struct Oracle {
    /// Whether each error covers all earlier writes, as with a stream that writes behind.
    pub(crate) stream: bool,
    /// `pool/image`, which errors must name.
    pub(crate) name: String,
    blocks: Vec<Block>,
    pending: HashMap<u64, Pending>,
    /// The number of lines read so far.
    order: u64,
    pub(crate) done: u64,
    pub(crate) failed: HashMap<String, u64>,
    pub(crate) slowest: Duration,
    /// While another client shrinks the image and grows it again: the first block that may contain
    /// anything.
    unsure_from: Option<u64>,
    /// The kind of an error after which the client ends.
    pub(crate) fatal: Option<String>,
    /// Whether the client has the image open.
    pub(crate) open: bool,
    pub(crate) wrong: Vec<(Wrong, String)>,
    /// The greatest id so far.
    pub(crate) last_id: u64,
}

impl Oracle {
    pub(crate) fn new(name: &str, blocks: u64) -> Oracle {
        let block = Block { base: Content::Of(0), by: "creation", any: false, since: Vec::new() };
        Oracle {
            stream: false,
            name: name.to_owned(),
            blocks: vec![block; blocks as usize],
            pending: HashMap::new(),
            order: 0,
            done: 0,
            failed: HashMap::new(),
            slowest: Duration::ZERO,
            unsure_from: None,
            fatal: None,
            open: false,
            wrong: Vec::new(),
            last_id: 0,
        }
    }

    /// Sets the content before the first client.
    pub(crate) fn begin_with(&mut self, block: u64, id: u64) {
        self.blocks[block as usize].base = Content::Of(id);
    }

    pub(crate) fn hear(&mut self, line: Line, weather: &Weather) {
        self.order += 1;
        match line {
            Line::Begin { id, kind, block, count } => {
                self.last_id = self.last_id.max(id);
                if let Some(content) = written(kind, id) {
                    for block in self.range(block, count) {
                        block.since.push(Written { id, content, state: State::Sent });
                    }
                }
                let (began, order) = (Instant::now(), self.order);
                self.pending.insert(id, Pending { kind, block, count, began, order });
            }
            Line::Done { id } => self.ended(id, None, weather),
            Line::Found { id, contents } => {
                if let Some(Pending { block, .. }) = self.pending.get(&id) {
                    let block = *block;
                    for (block, content) in (block..).zip(contents) {
                        self.check(block, content, "a read of the client");
                    }
                }
                self.ended(id, None, weather);
            }
            Line::Failed { id, error, text } => self.ended(id, Some((error, text)), weather),
        }
    }

    fn ended(&mut self, id: u64, failure: Option<(String, String)>, weather: &Weather) {
        let Some(pending) = self.pending.remove(&id) else {
            return self.blame(Wrong::Error, format!("the operation {id} ended and had not begun"));
        };
        let took = pending.began.elapsed();
        self.slowest = self.slowest.max(took);
        let order = self.order;
        if written(pending.kind, id).is_some() {
            let state = if failure.is_some() { State::Failed } else { State::Acked(order) };
            for block in self.range(pending.block, pending.count) {
                block.since.iter_mut().filter(|write| write.id == id).for_each(|write| write.state = state);
            }
        }
        let ends_all = matches!(pending.kind, Kind::Flush | Kind::Close);
        match failure {
            None => {
                self.done += 1;
                if ends_all {
                    self.durable(
                        pending.order,
                        if pending.kind == Kind::Close { "a close" } else { "a flush" },
                    );
                }
                match pending.kind {
                    Kind::Open => self.open = true,
                    Kind::Close => self.open = false,
                    _ => {}
                }
            }
            Some((error, text)) => {
                if ends_all || self.stream {
                    self.told();
                }
                // A failed close also closes the image.
                self.open &= pending.kind != Kind::Close;
                *self.failed.entry(error.clone()).or_default() += 1;
                if ["Blocklisted", "NotFound"].contains(&&*error) {
                    self.fatal = Some(error.clone());
                }
                if !weather.allows(&error, &self.name, pending.began) {
                    self.blame(Wrong::Error, format!("{error}, which no fault explains: {text}"));
                } else if !text.contains(&self.name) && !text.contains(self.pool()) {
                    self.blame(Wrong::Error, format!("it does not name {}: {text}", self.name));
                }
            }
        }
    }

    /// Makes durable the writes acknowledged before that line.
    fn durable(&mut self, order: u64, by: &'static str) {
        let sure_until = self.unsure_from.unwrap_or(u64::MAX);
        for (_, block) in (0..sure_until).zip(&mut self.blocks) {
            let sure = |write: &Written| matches!(write.state, State::Acked(at) if at < order);
            if let Some(last) = block.since.iter().rposition(sure) {
                block.base = Content::Of(block.since[last].content);
                block.by = by;
                block.any = false;
                let mut at = 0;
                block.since.retain(|write| {
                    at += 1;
                    at > last + 1 || write.state == State::Failed
                });
            }
        }
    }

    /// Marks the writes acknowledged since the last flush as possibly lost.
    fn told(&mut self) {
        for write in self.blocks.iter_mut().flat_map(|block| &mut block.since) {
            if matches!(write.state, State::Acked(_)) {
                write.state = State::Doubtful;
            }
        }
    }

    /// From now on the blocks from this one may contain anything, until `cut` is called.
    pub(crate) fn begin_cut(&mut self, from: u64) {
        self.cut(from);
        self.unsure_from = Some(from);
    }

    /// The blocks from this one may contain anything, until they are written again and flushed.
    pub(crate) fn cut(&mut self, from: u64) {
        self.unsure_from = None;
        for block in &mut self.blocks[from as usize..] {
            block.any = true;
            block.since.clear();
        }
    }

    fn check(&mut self, block: u64, content: Content, who: &str) {
        let Some(known) = self.blocks.get(block as usize) else { return };
        let allowed = |write: &Written| Content::Of(write.content) == content;
        if !known.any && known.base != content && !known.since.iter().any(allowed) {
            let what = format!("{who} found {content:?} in block {block}; allowed is {known:?}");
            self.blame(Wrong::Lost, what);
        }
    }

    /// After the end of a client: takes the content of the image as the start for the next one.
    pub(crate) fn settle(&mut self, contents: impl Iterator<Item = Content>) {
        for (block, content) in contents.enumerate() {
            self.check(block as u64, content, "the verification");
            let known = &mut self.blocks[block];
            let written = matches!(content, Content::Of(id) if id != 0);
            *known =
                Block { base: content, by: "a verification", any: known.any && !written, since: Vec::new() };
        }
        self.pending.clear();
    }

    /// Forgets operations in flight: the client was killed.
    pub(crate) fn forget_pending(&mut self) {
        self.pending.clear();
    }

    /// Returns the operation that has been in flight for the longest time.
    pub(crate) fn oldest(&self) -> Option<(Duration, String)> {
        let oldest = self.pending.values().max_by_key(|pending| pending.began.elapsed())?;
        let Pending { kind, block, .. } = oldest;
        Some((oldest.began.elapsed(), format!("{kind:?} of block {block} of {}", self.name)))
    }

    pub(crate) fn blame(&mut self, wrong: Wrong, what: String) {
        // The first ones are enough: a lost image would fill the screen.
        if self.wrong.len() < 20 {
            self.wrong.push((wrong, what));
        }
    }

    fn pool(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    fn range(&mut self, block: u64, count: u64) -> &mut [Block] {
        let (from, to) = (block as usize, (block + count) as usize);
        &mut self.blocks[from..to]
    }
}

/// Returns the content of the blocks after an operation of this kind; `None` if it does not write.
fn written(kind: Kind, id: u64) -> Option<u64> {
    match kind {
        Kind::Write => Some(id),
        Kind::Zero => Some(0),
        Kind::Read | Kind::Flush | Kind::Open | Kind::Close => None,
    }
}

/// Tests the oracle itself: it finds violations, and nothing else.
pub(crate) fn self_test() {
    let weather = Weather::new();
    let begin = |id, kind, block| Line::Begin { id, kind, block, count: 1 };
    let run = |lines: &[Line], found: u64| {
        let mut oracle = Oracle::new("rbd/a", 4);
        lines.iter().for_each(|line| oracle.hear(line.clone(), &weather));
        oracle.settle([Content::Of(found)].into_iter());
        oracle.wrong
    };
    let (write, acked) = (begin(1, Kind::Write, 0), Line::Done { id: 1 });
    let (flush, flushed) = (begin(2, Kind::Flush, 0), Line::Done { id: 2 });
    let flushed_write = [write.clone(), acked.clone(), flush.clone(), flushed.clone()];
    assert!(run(&flushed_write, 1).is_empty(), "what was flushed is there");
    assert_eq!(run(&flushed_write, 0)[0].0, Wrong::Lost, "what was flushed is not there");
    assert!(run(&flushed_write[..2], 0).is_empty(), "nobody has vouched for it yet");
    let beside = [write, flush, acked, flushed];
    assert!(run(&beside, 0).is_empty(), "the flush began before the write was acknowledged");
    assert_eq!(run(&flushed_write, 7)[0].0, Wrong::Lost, "nobody has written that");
    let failed = Line::Failed { id: 2, error: "TimedOut".into(), text: "flush rbd/a".into() };
    let told = [&flushed_write[..3], &[failed]].concat();
    assert_eq!(run(&told, 0)[0].0, Wrong::Error, "no fault explains it");
    assert_eq!(run(&told, 0).len(), 1, "but it tells");
    let is_open = |lines: &[Line]| {
        let mut oracle = Oracle::new("rbd/a", 4);
        lines.iter().for_each(|line| oracle.hear(line.clone(), &weather));
        oracle.open
    };
    let (open, opened) = (begin(1, Kind::Open, 0), Line::Done { id: 1 });
    let failed = Line::Failed { id: 1, error: "TimedOut".into(), text: "open rbd/a".into() };
    assert!(is_open(&[open.clone(), opened.clone()]), "a client that ends now has not closed");
    assert!(!is_open(&[open.clone(), failed]), "nothing is open after a failed opening");
    assert!(!is_open(&[open, opened, begin(2, Kind::Close, 0), Line::Done { id: 2 }]));
    let line = begin(9, Kind::Write, 3);
    assert_eq!(Line::parse(&line.to_string()), Some(line));
}
