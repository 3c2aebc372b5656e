//! What is told of drills that run side by side, in the order in which they were begun: one speaks, the lines of those behind
//! it are held back until it is over.

use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_daemon::runner::RunEvent;
use lifeboat_repo::progress::{Counter, Progress};

use crate::{log::Voice, progress::Meter};

/// Who speaks, and what the others have to say.
struct Order {
    voice: Voice,
    state: Mutex<State>,
}

struct State {
    /// Who speaks: everybody before is over.
    front: usize,
    places: Vec<Place>,
}

#[derive(Default, Clone)]
struct Place {
    held: Vec<Said>,
    is_over: bool,
}

/// A line, and what it says to programs.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    line: String,
    event: Option<RunEvent>,
}

/// The lines of one of them. When it is dropped, the next one speaks.
pub struct Lines {
    order: Arc<Order>,
    place: usize,
}

/// The lines of so many, in their order.
pub fn in_order(voice: &Voice, count: usize) -> Vec<Arc<Lines>> {
    let state = State { front: 0, places: vec![Place::default(); count] };
    let order = Arc::new(Order { voice: voice.clone(), state: Mutex::new(state) });
    (0..count).map(|place| Arc::new(Lines { order: Arc::clone(&order), place })).collect()
}

/// The lines of one that runs alone.
pub fn alone(voice: &Voice) -> Arc<Lines> {
    let state = State { front: 0, places: vec![Place::default()] };
    Arc::new(Lines { order: Arc::new(Order { voice: voice.clone(), state: Mutex::new(state) }), place: 0 })
}

impl State {
    /// A line: to be said now, or held back.
    fn take(&mut self, place: usize, said: Said) -> Option<Said> {
        if place <= self.front {
            return Some(said);
        }
        self.places[place].held.push(said);
        None
    }

    /// One is over: gives what those behind it had to say, as far as it is their turn.
    fn end(&mut self, place: usize) -> Vec<Said> {
        self.places[place].is_over = true;
        let mut said = Vec::new();
        while self.places.get(self.front).is_some_and(|place| place.is_over) {
            self.front += 1;
            said.extend(
                self.places.get_mut(self.front).map(|place| std::mem::take(&mut place.held)).unwrap_or_default(),
            );
        }
        said
    }
}

impl Lines {
    /// Says a line, or holds it back. Said under the lock: lines of two do not change places.
    pub fn say(&self, line: &str) {
        self.tell(line, None);
    }

    /// The same for programs as well: they are given the event in place of the line.
    pub fn event(&self, event: RunEvent, line: &str) {
        self.tell(line, Some(event));
    }

    /// Whether events are asked for in place of lines.
    pub fn tells_events(&self) -> bool {
        self.order.voice.tells_events()
    }

    fn tell(&self, line: &str, event: Option<RunEvent>) {
        let mut state = self.order.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = state.take(self.place, Said { line: line.to_owned(), event }) {
            self.order.say(&said);
        }
    }
}

impl Order {
    fn say(&self, said: &Said) {
        match &said.event {
            Some(event) if self.voice.tells_events() => self.voice.event(event, &said.line),
            _ => self.voice.say(&said.line),
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut state = self.order.state.lock().unwrap_or_else(PoisonError::into_inner);
        for said in state.end(self.place) {
            self.order.say(&said);
        }
    }
}

/// Progress whose notes keep the order.
pub struct Noted {
    pub meter: Arc<Meter>,
    pub lines: Arc<Lines>,
}

impl Progress for Noted {
    fn add(&self, counter: Counter, n: u64) {
        self.meter.add(counter, n);
    }

    fn note(&self, text: &str) {
        self.lines.say(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_speaks_when_the_first_is_over() {
        let said = |line: &str| Said { line: line.to_owned(), event: None };
        let mut state = State { front: 0, places: vec![Place::default(); 3] };
        assert!(state.take(0, said("a")).is_some());
        assert!(state.take(1, said("b")).is_none() && state.take(2, said("c")).is_none());
        assert_eq!(state.end(1), Vec::new());
        assert!(state.take(0, said("a")).is_some());
        // The second is over too, so all of it and what the third has said come now, in this order.
        assert_eq!(state.end(0), [said("b"), said("c")]);
        assert!(state.take(2, said("c")).is_some());
        assert_eq!(state.end(2), Vec::new());
    }
}
