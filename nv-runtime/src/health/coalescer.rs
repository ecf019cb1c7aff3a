use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use nv_core::{HealthEvent, HealthKind, HealthTopic, MonoTime, Name};

/// How long repeats of an event are held, to be told of at once.
const WINDOW: Duration = Duration::from_secs(1);

/// Makes one event of many that tell the same.
///
/// What happens for the first time is told at once, and opens a window for its topic. What repeats within the window is held,
/// and told when the window ends, with a count; then another one begins. What happens within the window and was not told in
/// it is told at once too, after all that is held of its topic: so the events of a topic come in the order in which they
/// happened last, and the last one told is how things stand. A feed's end is told after all that is held of the feed.
///
/// A topic that is quiet for a window is forgotten, and so is a feed that has ended.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    topics: HashMap<Topic, Window>,
    /// When windows end: in order, since all are of one length. Some are of windows that have gone.
    ends: VecDeque<(MonoTime, Topic)>,
}

type Topic = (Option<Name>, HealthTopic);

#[derive(Debug)]
struct Window {
    ends: MonoTime,
    /// What was told in it.
    told: Vec<HealthKind>,
    /// What repeats that, in the order in which it happened last; each but once.
    held: Vec<HealthEvent>,
}

impl Coalescer {
    /// Takes in an event, and adds to `told` what is to be told now. Time must not go back from one call to the next.
    pub(super) fn report(&mut self, event: HealthEvent, told: &mut Vec<HealthEvent>) {
        self.tick(event.at, told);
        let topic = (event.feed.clone(), event.kind.topic());
        if topic.1 == HealthTopic::End {
            self.forget(|of| *of == topic.0, told);
            told.push(event);
            return;
        }
        let ends = event.at + WINDOW;
        match self.topics.entry(topic) {
            Entry::Vacant(entry) => {
                self.ends.push_back((ends, entry.key().clone()));
                entry.insert(Window { ends, told: vec![event.kind.clone()], held: Vec::new() });
                told.push(event);
            }
            Entry::Occupied(mut entry) => entry.get_mut().report(event, told),
        }
    }

    /// Tells of what is held in windows that have ended.
    pub(super) fn tick(&mut self, now: MonoTime, told: &mut Vec<HealthEvent>) {
        while let Some((_, topic)) = self.ends.pop_front_if(|(ends, _)| *ends <= now) {
            let Entry::Occupied(mut entry) = self.topics.entry(topic) else { continue };
            let window = entry.get_mut();
            if window.ends > now {
                // Of an earlier window of the topic.
                continue;
            }
            if window.held.is_empty() {
                entry.remove();
                continue;
            }
            window.told = window.held.iter().map(|e| e.kind.clone()).collect();
            told.append(&mut window.held);
            window.ends = now + WINDOW;
            self.ends.push_back((window.ends, entry.key().clone()));
        }
    }

    /// When [`tick`](Self::tick) is due.
    pub(super) fn next_due(&self) -> Option<MonoTime> {
        self.ends.front().map(|(ends, _)| *ends)
    }

    /// Tells of all that is held, and forgets everything.
    pub(super) fn flush(&mut self, told: &mut Vec<HealthEvent>) {
        self.forget(|_| true, told);
        self.ends.clear();
    }

    /// Tells of all that is held of these feeds, and forgets them.
    fn forget(&mut self, feed: impl Fn(&Option<Name>) -> bool, told: &mut Vec<HealthEvent>) {
        let gone = self.topics.extract_if(|(of, _), _| feed(of));
        let mut held: Vec<_> = gone.flat_map(|(_, window)| window.held).collect();
        held.sort_by_key(|e| e.at);
        told.append(&mut held);
    }
}

impl Window {
    fn report(&mut self, event: HealthEvent, told: &mut Vec<HealthEvent>) {
        if !self.told.iter().any(|kind| event.kind.repeats(kind)) {
            self.told.push(event.kind.clone());
            told.append(&mut self.held);
            told.push(event);
            return;
        }
        let merged = match self.held.iter().position(|e| event.kind.repeats(&e.kind)) {
            Some(at) => {
                let mut earlier = self.held.remove(at);
                earlier.merge(event);
                earlier
            }
            None => event,
        };
        self.held.push(merged);
    }
}

#[cfg(test)]
mod tests;
