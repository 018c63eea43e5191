//! A decoder without a network: each page's prompt says what is answered.

use burn::tensor::{Device, Tensor, TensorData};
use deepseek_ocr::decoder::{CacheFull, Chosen, Decoder, Input, Row, Slot};
use deepseek_ocr::stages::Stages;

/// The token that ends an answer.
pub(crate) const EOS: u32 = 1;

/// A prompt's first tokens: which page it is, and how many tokens its answer has.
pub(crate) fn prompt(page: u32, answer: u32, length: usize) -> Vec<u32> {
    assert!(length >= 2);
    let mut tokens = vec![page, answer];
    tokens.resize(length, 5);
    tokens
}

/// The token that a page's answer has at a place if nothing forbids it.
pub(crate) fn token(page: u32, at: u32) -> u32 {
    let mixed = (u64::from(page) << 32 | u64::from(at)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    100 + (mixed >> 40) as u32 % 100_000
}

/// What a step computed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// Page, and positions of its prompt; 0 where a token was asked for.
    pub(crate) rows: Vec<(u32, usize)>,
    /// Positions of all places that are taken.
    pub(crate) held: usize,
}

#[derive(Debug, Default)]
struct Place {
    positions: usize,
    used: usize,
    prompt: Vec<u32>,
    /// Tokens chosen; within the prompt, none.
    chosen: u32,
    last: Option<u32>,
}

/// Answers by a script and remembers its steps.
pub(crate) struct Scripted {
    capacity: usize,
    places: Vec<Option<Place>>,
    /// The answer's token of a page at a place.
    script: fn(u32, u32) -> u32,
    /// Whether everything that is asked of the device fails.
    pub(crate) is_lost: bool,
    pub(crate) steps: Vec<Step>,
}

impl Scripted {
    /// A cache of so many positions, answers by [`token`].
    pub(crate) fn new(capacity: usize) -> Self {
        Self::with_script(capacity, token)
    }

    pub(crate) fn with_script(capacity: usize, script: fn(u32, u32) -> u32) -> Self {
        Self {
            capacity,
            places: Vec::new(),
            script,
            is_lost: false,
            steps: Vec::new(),
        }
    }

    /// Positions of all places that are taken.
    pub(crate) fn held(&self) -> usize {
        self.places
            .iter()
            .flatten()
            .map(|place| place.positions)
            .sum()
    }

    fn choose(place: &mut Place, banned: &[u32], script: fn(u32, u32) -> u32) -> Chosen {
        let (page, answer) = (place.prompt[0], place.prompt[1]);
        let mut token = if place.chosen == answer {
            EOS
        } else {
            script(page, place.chosen)
        };
        while banned.contains(&token) {
            token += 1;
        }
        place.chosen += 1;
        place.last = Some(token);
        Chosen {
            token,
            log_probability: -0.25,
        }
    }
}

impl Decoder for Scripted {
    fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        let values: Vec<f32> = tokens.iter().map(|&token| token as f32).collect();
        Tensor::from_data(TensorData::new(values, [tokens.len(), 1]), &Device::flex())
    }

    fn open(&mut self, positions: usize) -> Result<Slot, CacheFull> {
        if self.held() + positions > self.capacity {
            return Err(CacheFull { positions });
        }
        let free = self.places.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[at] = Some(Place {
            positions,
            ..Place::default()
        });
        Ok(Slot(at))
    }

    fn grow(&mut self, slot: Slot, positions: usize) -> Result<(), CacheFull> {
        let held = self.held();
        let place = self.places[slot.0].as_mut().expect("an open place grows");
        let more = positions.saturating_sub(place.positions);
        if held + more > self.capacity {
            return Err(CacheFull { positions });
        }
        place.positions += more;
        Ok(())
    }

    fn close(&mut self, slot: Slot) {
        assert!(!self.is_lost, "{slot:?} cannot be cleared on a lost device");
        assert!(
            self.places[slot.0].take().is_some(),
            "{slot:?} was not open"
        );
    }

    fn step(&mut self, rows: &[Row]) -> Vec<Chosen> {
        assert!(!self.is_lost, "the device is lost");
        let held = self.held();
        let mut step = Vec::new();
        let mut chosen = Vec::new();
        for row in rows {
            let place = self.places[row.slot.0]
                .as_mut()
                .expect("a row of an open place");
            let n_prompt = match &row.input {
                Input::Prompt(piece) => {
                    let piece = piece.clone().into_data().convert::<f32>();
                    let piece: Vec<u32> = piece.iter::<f32>().map(|value| value as u32).collect();
                    place.prompt.extend(&piece);
                    // Choices within a prompt are nobody's: the next piece starts over.
                    (place.chosen, place.last) = (0, None);
                    piece.len()
                }
                Input::Token(token) => {
                    assert_eq!(Some(*token), place.last, "goes on from what was chosen");
                    0
                }
            };
            place.used += n_prompt.max(1);
            assert!(
                place.used <= place.positions,
                "more positions than asked for"
            );
            step.push((place.prompt[0], n_prompt));
            chosen.push(if place.prompt.len() < 2 {
                Chosen {
                    token: EOS,
                    log_probability: 0.0,
                }
            } else {
                Self::choose(place, &row.banned, self.script)
            });
        }
        self.steps.push(Step { rows: step, held });
        chosen
    }

    fn logits(&mut self, _: &Row, _: &mut Stages) -> Tensor<2> {
        unreachable!("nobody compares a script")
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}
