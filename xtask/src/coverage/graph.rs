//! Who calls whom, and so which public item leads to which C function.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Call, Function, Receiver, Source, by_name};

/// Methods of the standard library that functions of ours share their names with. On a receiver
/// that is not known to be one of ours they lead nowhere.
const STANDARD: &[&str] = &[
    "as_ptr", "clone", "cloned", "close", "collect", "copy", "count", "drop", "extend", "filter", "find",
    "first", "flatten", "flush", "from", "get", "insert", "into", "is_empty", "iter", "join", "last", "len",
    "lock", "map", "new", "next", "open", "poll", "position", "push", "read", "remove", "send", "set",
    "split", "take", "wait", "wake", "write",
];

/// Which functions a function leads to.
pub(super) struct Graph<'a> {
    source: &'a Source,
    edges: Vec<BTreeSet<usize>>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(source: &'a Source) -> Graph<'a> {
        let functions = &source.functions;
        let index = by_name(functions);
        let above: BTreeSet<&str> =
            functions.iter().filter(|f| !f.raw).filter_map(|f| f.of.as_deref()).collect();
        let mut edges = vec![BTreeSet::new(); functions.len()];
        for (number, caller) in functions.iter().enumerate() {
            for call in &caller.calls {
                let candidates = index.get(call.name.as_str()).into_iter().flatten();
                edges[number]
                    .extend(candidates.filter(|other| meets(caller, call, &functions[**other], &above)));
            }
            // What a builder does when it is run is what the function that makes it does.
            for builder in caller.returns.intersection(&source.builders) {
                let runs = functions.iter().enumerate().filter(|(_, other)| {
                    other.takes_self
                        && other.of.as_ref() == Some(builder)
                        && !other.returns.contains(builder)
                        && !other.returns.contains("Self")
                });
                edges[number].extend(runs.map(|(other, _)| other));
            }
            // Who makes a value of a type also makes its end.
            let own = caller.makes.contains("Self").then_some(caller.of.as_ref()).flatten();
            for of in caller.makes.iter().chain(own) {
                let ends = functions.iter().enumerate().filter(|(_, other)| {
                    other.name == "drop" && other.of.as_ref() == Some(of) && other.raw == caller.raw
                });
                edges[number].extend(ends.map(|(other, _)| other));
            }
            edges[number].remove(&number);
        }
        Graph { source, edges }
    }

    /// The C functions that a function leads to, itself included.
    pub(super) fn symbols_of(&self, number: usize) -> BTreeSet<&'a str> {
        let mut seen = BTreeSet::from([number]);
        let mut next = vec![number];
        while let Some(function) = next.pop() {
            next.extend(self.edges[function].iter().filter(|other| seen.insert(**other)));
        }
        seen.into_iter()
            .flat_map(|number| self.source.functions[number].symbols.iter().map(String::as_str))
            .collect()
    }

    /// For each C function the public items that lead to it by the fewest calls.
    pub(super) fn users(&self) -> BTreeMap<&'a str, BTreeSet<usize>> {
        let mut users: BTreeMap<&str, (usize, BTreeSet<usize>)> = BTreeMap::new();
        for (number, function) in self.source.functions.iter().enumerate().filter(|(_, f)| f.public) {
            let _ = function;
            for (symbol, distance) in self.distances(number) {
                let best = users.entry(symbol).or_insert((distance, BTreeSet::new()));
                if distance < best.0 {
                    *best = (distance, BTreeSet::new());
                }
                if distance == best.0 {
                    best.1.insert(number);
                }
            }
        }
        users.into_iter().map(|(symbol, (_, numbers))| (symbol, numbers)).collect()
    }

    fn distances(&self, from: usize) -> BTreeMap<&'a str, usize> {
        let mut found = BTreeMap::new();
        let mut seen = BTreeSet::from([from]);
        let mut row = vec![from];
        for distance in 0.. {
            if row.is_empty() {
                break;
            }
            for function in &row {
                for symbol in &self.source.functions[*function].symbols {
                    found.entry(symbol.as_str()).or_insert(distance);
                }
            }
            let next: Vec<usize> = row.iter().flat_map(|function| &self.edges[*function]).copied().collect();
            row = next.into_iter().filter(|function| seen.insert(*function)).collect();
        }
        found
    }
}

/// Whether a call may be one of this function, as far as names, types and numbers of arguments
/// tell.
///
/// `above` are the types that have functions outside of `raw`: of others only the raw one can be
/// meant.
fn meets(caller: &Function, call: &Call, callee: &Function, above: &BTreeSet<&str>) -> bool {
    let with_self = callee.arity + 1;
    if call.arity.is_some_and(|arity| arity != callee.arity && arity != with_self) {
        return false;
    }
    match &call.on {
        Receiver::Own => callee.of.is_some() && callee.of == caller.of && callee.raw == caller.raw,
        Receiver::Raw => callee.raw && callee.of.is_some(),
        Receiver::Of(of, raw) => {
            let side = *raw == callee.raw || caller.raw == callee.raw || !above.contains(of.as_str());
            callee.of.as_ref() == Some(of) && side
        }
        Receiver::Free => callee.of.is_none(),
        Receiver::Any => callee.of.is_some() && !STANDARD.contains(&call.name.as_str()),
    }
}
