//! The board: who is here and what was drawn. Pure; everything on it is bounded, whoever draws.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// The sheet that everybody sees, in its own units; pages scale it to their window.
const SHEET: (f32, f32) = (1600.0, 1000.0);
const MAX_POINTS: usize = 200_000;
const MAX_STROKES: usize = 20_000;
const MAX_STROKE_POINTS: usize = 20_000;
const PEN_WIDTHS: std::ops::RangeInclusive<f32> = 1.0..=40.0;
const PEOPLE: [(&str, &str); 12] = [
    ("Marmot", "#d1495b"),
    ("Ibex", "#00798c"),
    ("Lynx", "#e08e1b"),
    ("Heron", "#3066be"),
    ("Otter", "#6a994e"),
    ("Raven", "#5f4b8b"),
    ("Fox", "#c8553d"),
    ("Owl", "#8d6b94"),
    ("Badger", "#2f6690"),
    ("Hare", "#b56576"),
    ("Stag", "#386641"),
    ("Wren", "#9a6324"),
];

/// Tells people apart for as long as the process lives.
pub(super) type PersonId = u32;

/// Somebody whose page is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Person {
    pub(super) id: PersonId,
    pub(super) name: &'static str,
    pub(super) color: &'static str,
}

/// One line drawn without lifting the pen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stroke {
    by: PersonId,
    stroke: u32,
    color: String,
    width: f32,
    /// x, y, x, y, …
    points: Vec<f32>,
}

/// What a page says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Say {
    /// Begins the stroke, or goes on with it.
    Draw { stroke: u32, width: f32, points: Vec<f32> },
    /// The pointer is here.
    Move { x: f32, y: f32 },
    /// Wipe the board.
    Clear,
}

/// What all pages are told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Tell {
    /// A stroke began, or goes on: only the new points.
    Draw(Stroke),
    /// Somebody's pointer moved.
    Move { by: PersonId, x: f32, y: f32 },
    /// The board was wiped.
    Clear { by: PersonId },
    /// Who is here now.
    People { people: Vec<Person> },
}

/// The whole state.
#[derive(Debug, Default)]
pub(super) struct Board {
    strokes: VecDeque<Stroke>,
    points: usize,
    people: BTreeMap<PersonId, Person>,
    last_person: PersonId,
}

impl Board {
    /// A board with what was drawn before.
    pub(super) fn restore(strokes: Vec<Stroke>) -> Self {
        let last_person = strokes.iter().map(|stroke| stroke.by).max().unwrap_or(0);
        let points = strokes.iter().map(|stroke| stroke.points.len()).sum();
        let mut board = Self { strokes: strokes.into(), points, last_person, ..Self::default() };
        board.forget_oldest();
        board
    }

    pub(super) fn strokes(&self) -> &VecDeque<Stroke> {
        &self.strokes
    }

    pub(super) fn people(&self) -> Vec<Person> {
        self.people.values().copied().collect()
    }

    /// Somebody opened the page: the first look that nobody present has.
    pub(super) fn enter(&mut self) -> Person {
        self.last_person = self.last_person.wrapping_add(1);
        let id = self.last_person;
        let taken = |color: &str| self.people.values().any(|person| person.color == color);
        let next = id as usize % PEOPLE.len();
        let (name, color) = PEOPLE.into_iter().find(|(_, color)| !taken(color)).unwrap_or(PEOPLE[next]);
        let person = Person { id, name, color };
        self.people.insert(id, person);
        person
    }

    pub(super) fn leave(&mut self, id: PersonId) {
        self.people.remove(&id);
    }

    /// Applies what a page said; returns what to tell everybody, or `None` where it makes no sense.
    pub(super) fn hear(&mut self, by: PersonId, say: Say) -> Option<Tell> {
        let person = *self.people.get(&by)?;
        match say {
            Say::Draw { stroke, width, points } => self.draw(person, stroke, width, points).map(Tell::Draw),
            Say::Move { x, y } => Some(Tell::Move { by, x: within(x, SHEET.0)?, y: within(y, SHEET.1)? }),
            Say::Clear => {
                self.strokes.clear();
                self.points = 0;
                Some(Tell::Clear { by })
            }
        }
    }

    fn draw(&mut self, person: Person, stroke: u32, width: f32, points: Vec<f32>) -> Option<Stroke> {
        let points = points
            .chunks(2)
            .map(|point| Some([within(*point.first()?, SHEET.0)?, within(*point.get(1)?, SHEET.1)?]))
            .collect::<Option<Vec<_>>>()?
            .concat();
        if points.is_empty() || !PEN_WIDTHS.contains(&width) {
            return None;
        }
        let new = Stroke { by: person.id, stroke, color: person.color.into(), width, points };
        let open = self.strokes.iter_mut().rev().find(|old| old.by == new.by && old.stroke == new.stroke);
        match open {
            Some(old) if old.points.len() + new.points.len() > MAX_STROKE_POINTS => return None,
            Some(old) => old.points.extend(&new.points),
            None => self.strokes.push_back(new.clone()),
        }
        self.points += new.points.len();
        self.forget_oldest();
        Some(new)
    }

    fn forget_oldest(&mut self) {
        while self.points > MAX_POINTS || self.strokes.len() > MAX_STROKES {
            let Some(oldest) = self.strokes.pop_front() else { break };
            self.points -= oldest.points.len();
        }
    }
}

/// A coordinate on the sheet, to a tenth of a unit; `None` for what is not a number.
fn within(value: f32, max: f32) -> Option<f32> {
    value.is_finite().then(|| (value.clamp(0.0, max) * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(stroke: u32, points: &[f32]) -> Say {
        Say::Draw { stroke, width: 4.0, points: points.to_vec() }
    }

    #[test]
    fn a_stroke_grows_and_everybody_is_told_only_what_is_new() {
        let mut board = Board::default();
        let me = board.enter().id;
        board.hear(me, draw(1, &[1.0, 2.0])).unwrap();
        let Some(Tell::Draw(told)) = board.hear(me, draw(1, &[3.0, 4.0])) else { panic!("not told") };
        assert_eq!(told.points, [3.0, 4.0]);
        assert_eq!(board.strokes()[0].points, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn people_present_differ_in_colour() {
        let mut board = Board::default();
        let colors: std::collections::BTreeSet<_> = (0..PEOPLE.len()).map(|_| board.enter().color).collect();
        assert_eq!(colors.len(), PEOPLE.len());
        board.enter();
        assert_eq!(board.people().len(), PEOPLE.len() + 1, "more people than looks are welcome too");
    }

    #[test]
    fn nonsense_changes_nothing() {
        let mut board = Board::default();
        let me = board.enter().id;
        assert_eq!(board.hear(me, draw(1, &[1.0])), None, "half a point");
        assert_eq!(board.hear(me, draw(1, &[])), None, "no point");
        assert_eq!(board.hear(me, draw(1, &[f32::NAN, 1.0])), None, "not a number");
        assert_eq!(
            board.hear(me, Say::Draw { stroke: 1, width: 1e9, points: vec![1.0, 1.0] }),
            None,
            "a wall"
        );
        assert_eq!(board.hear(me + 1, draw(1, &[1.0, 1.0])), None, "somebody who is not here");
        assert!(board.strokes().is_empty());
    }

    #[test]
    fn the_history_is_bounded() {
        let mut board = Board::default();
        let me = board.enter().id;
        for stroke in 0..50 {
            for _ in 0..20 {
                board.hear(me, draw(stroke, &[1.0; 1000]));
            }
        }
        assert!(board.points <= MAX_POINTS);
        assert_eq!(board.points, board.strokes().iter().map(|s| s.points.len()).sum::<usize>());
        assert_eq!(board.strokes().back().unwrap().stroke, 49, "the newest stays");
    }

    #[test]
    fn a_restored_board_gives_nobody_an_old_id() {
        let mut board = Board::default();
        let first = board.enter().id;
        board.hear(first, draw(1, &[1.0, 2.0]));
        let saved = serde_json::to_string(board.strokes()).unwrap();
        let mut board = Board::restore(serde_json::from_str(&saved).unwrap());
        assert!(board.enter().id > first);
        assert_eq!(board.strokes().len(), 1);
    }
}
