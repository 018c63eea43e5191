//! Who is written when.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use deepseek_ocr::decoder::Decoder;
use deepseek_ocr::generate::metrics::Meters;
use deepseek_ocr::generate::{
    BatchSettings, Batcher, FinishReason, NgramBlock, Occupancy, Question, Rules, WatchedTokens,
    Written,
};

use crate::scripted::{EOS, Scripted, prompt, token};

const SETTINGS: BatchSettings = BatchSettings {
    places: 16,
    prompt_piece: 512,
    prompt_budget: 1024,
};

fn rules() -> Rules {
    Rules {
        eos: EOS,
        max_new_tokens: 8192,
        max_positions: 8192,
        ngrams: NgramBlock::Window {
            size: 30,
            window: 90,
            whitelist: Vec::new(),
        },
        never: Vec::new(),
        cut_repetition: true,
        watched: WatchedTokens::default(),
    }
}

/// A page: how many tokens its prompt has, and its answer.
#[derive(Debug, Clone, Copy)]
struct Page {
    prompt: usize,
    answer: u32,
}

fn question(decoder: &dyn Decoder, rules: &Arc<Rules>, id: u32, page: Page) -> Question<u32> {
    let tokens = prompt(id, page.answer, page.prompt);
    Question {
        tag: id,
        prompt: decoder.embed(&tokens),
        tokens,
        rules: Arc::clone(rules),
    }
}

/// All answers in the order they left, and the occupancy when the last page had got its place.
struct Run {
    answers: Vec<(u32, Option<Written>)>,
    until_dry: Occupancy,
}

impl Run {
    fn written(&self, id: u32) -> &Written {
        let found = self.answers.iter().find(|(tag, _)| *tag == id);
        found.unwrap().1.as_ref().unwrap()
    }

    fn by_page(&self) -> BTreeMap<u32, (Vec<u32>, FinishReason)> {
        let of = |(tag, written): &(u32, Option<Written>)| {
            let written = written.as_ref().unwrap();
            (*tag, (written.tokens.clone(), written.reason))
        };
        self.answers.iter().map(of).collect()
    }
}

fn run(decoder: &mut Scripted, settings: BatchSettings, rules: Rules, pages: &[Page]) -> Run {
    let rules = Arc::new(rules);
    let mut batcher = Batcher::new(decoder, settings, Meters::of("test"));
    for (id, &page) in pages.iter().enumerate() {
        let question = question(batcher.decoder(), &rules, id as u32, page);
        batcher.push(question);
    }
    let mut answers = Vec::new();
    let mut until_dry = Occupancy::default();
    while !batcher.is_idle() {
        if batcher.n_waiting() > 0 {
            until_dry = batcher.occupancy();
        }
        let answered = batcher.step();
        answers.extend(answered.into_iter().map(|a| (a.tag, a.result.ok())));
    }
    Run { answers, until_dry }
}

/// Between a nearly blank page and a newspaper.
fn mixed(n: usize) -> Vec<Page> {
    (0..n)
        .map(|id| Page {
            prompt: [120, 280, 500, 910, 1270][id % 5],
            answer: [12, 350, 900, 2100, 60, 1300, 4600][id % 7],
        })
        .collect()
}

#[test]
fn sixty_four_pages_of_mixed_length_keep_nine_places_of_ten_taken() {
    // Room for all places at full length; and the default of 4 GiB, which 12 layers of keys and
    // values of 1,280 numbers in 16 bits fill with 8.5 pages of that length.
    for capacity in [16 * 8192, (4 << 30) / (2 * 12 * 1280 * 2)] {
        let mut decoder = Scripted::new(capacity);
        let run = run(&mut decoder, SETTINGS, rules(), &mixed(64));
        assert_eq!(run.answers.len(), 64);
        let share = run.until_dry.share();
        assert!(share >= 0.9, "{capacity}: {:?} is {share}", run.until_dry);
    }
}

#[test]
fn pages_join_at_the_step_after_others_left() {
    let pages: Vec<Page> = (0..40)
        .map(|id| Page {
            prompt: 3,
            answer: 5 + id % 9,
        })
        .collect();
    let mut decoder = Scripted::new(1_000_000);
    let settings = BatchSettings {
        places: 8,
        ..SETTINGS
    };
    run(&mut decoder, settings, rules(), &pages);
    let steps = &decoder.steps;
    let first = |page: u32| {
        steps
            .iter()
            .position(|step| step.rows.iter().any(|row| row.0 == page))
    };
    let last = |page: u32| {
        steps
            .iter()
            .rposition(|step| step.rows.iter().any(|row| row.0 == page))
    };
    let mut left: Vec<usize> = (0..40).map(|page| last(page).unwrap()).collect();
    left.sort_unstable();
    for page in 8..40 {
        // The place that the page got is the one that was given back then.
        assert_eq!(
            first(page),
            Some(left[page as usize - 8] + 1),
            "page {page}"
        );
    }
    let changes = steps.windows(2).filter(|two| {
        let members = |at: usize| two[at].rows.iter().map(|row| row.0).collect::<Vec<_>>();
        members(0) != members(1)
    });
    assert!(changes.count() > steps.len() / 2);
}

#[test]
fn answers_leave_as_they_are_ready() {
    let pages = [40, 10, 30, 20].map(|answer| Page { prompt: 4, answer });
    let mut decoder = Scripted::new(100_000);
    let run = run(&mut decoder, SETTINGS, rules(), &pages);
    let order: Vec<u32> = run.answers.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(order, [1, 3, 2, 0]);
    let written = run.written(1);
    assert_eq!(written.reason, FinishReason::Stop);
    assert_eq!(
        written.tokens,
        (0..10).map(|at| token(1, at)).collect::<Vec<_>>()
    );
    assert_eq!(written.log_probabilities, [-0.25; 10]);
    assert_eq!(written.n_kept, 10);
}

#[test]
fn an_answer_does_not_depend_on_company() {
    let pages = mixed(20);
    let pieces = |decoder: &Scripted| {
        let mut pieces: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for &(page, n) in decoder.steps.iter().flat_map(|step| &step.rows) {
            if n > 0 {
                pieces.entry(page).or_default().push(n);
            }
        }
        pieces
    };
    let mut alone = Scripted::new(8192);
    let settings = BatchSettings {
        places: 1,
        ..SETTINGS
    };
    let expected = run(&mut alone, settings, rules(), &pages).by_page();
    for (places, budget) in [(3, 0), (7, 700), (16, 1024), (64, 100_000)] {
        let settings = BatchSettings {
            places,
            prompt_budget: budget,
            ..SETTINGS
        };
        let mut decoder = Scripted::new(20 * 8192);
        let found = run(&mut decoder, settings, rules(), &pages).by_page();
        assert_eq!(found, expected, "{settings:?}");
        assert_eq!(pieces(&decoder), pieces(&alone), "{settings:?}");
    }
}

#[test]
fn pages_wait_while_the_cache_is_full() {
    let mut decoder = Scripted::new(3 * 1000 + 500);
    let rules = Rules {
        max_new_tokens: 900,
        ..rules()
    };
    let pages = [Page {
        prompt: 100,
        answer: 50,
    }; 10];
    let run = run(&mut decoder, SETTINGS, rules, &pages);
    assert_eq!(run.answers.len(), 10);
    assert!(run.answers.iter().all(|(_, written)| written.is_some()));
    // Prompts, and the beginnings of answers: five of them.
    assert_eq!(decoder.steps.iter().map(|step| step.held).max(), Some(3060));
}

#[test]
fn page_that_came_last_starts_over_when_the_cache_is_full() {
    let pages = [Page {
        prompt: 100,
        answer: 1900,
    }; 5];
    let mut alone = Scripted::new(5 * 3000);
    let expected = run(&mut alone, SETTINGS, rules(), &pages);
    let mut decoder = Scripted::new(2 * 2100);
    let found = run(&mut decoder, SETTINGS, rules(), &pages);
    assert_eq!(found.by_page(), expected.by_page());
    let order: Vec<u32> = found.answers.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(order, [0, 1, 2, 3, 4], "nobody overtakes");
    let n_prompts = |decoder: &Scripted| {
        let rows = decoder.steps.iter().flat_map(|step| &step.rows);
        rows.filter(|(_, n_prompt)| *n_prompt > 0).count()
    };
    assert_eq!(n_prompts(&alone), 5);
    assert!(n_prompts(&decoder) > 5, "somebody was sent back");
    assert!(n_prompts(&decoder) <= 2 * 5, "and nobody twice");
    assert_eq!(decoder.held(), 0);
}

#[test]
fn lost_device_costs_a_panic_and_not_the_process() {
    let mut decoder = Scripted::new(8192);
    let page = Page {
        prompt: 4,
        answer: 100,
    };
    let asked = question(&decoder, &Arc::new(rules()), 1, page);
    decoder.is_lost = true;
    let abandoned = catch_unwind(AssertUnwindSafe(|| {
        let mut batcher = Batcher::new(&mut decoder, SETTINGS, Meters::of("test"));
        batcher.push(asked);
        batcher.step();
    }));
    assert!(abandoned.is_err());
    assert!(decoder.held() > 0, "the place could not be given back");
}

#[test]
fn a_page_that_never_fits_is_refused_and_the_others_are_answered() {
    let mut decoder = Scripted::new(2000);
    let page = |prompt| Page { prompt, answer: 20 };
    let pages = [page(100), page(2000), page(300), page(9000), page(50)];
    let run = run(&mut decoder, SETTINGS, rules(), &pages);
    let refused: Vec<u32> = run
        .answers
        .iter()
        .filter(|(_, written)| written.is_none())
        .map(|(tag, _)| *tag)
        .collect();
    assert_eq!(refused, [1, 3]);
    assert_eq!(run.answers.len(), 5);
}

#[test]
fn pages_that_are_written_are_not_kept_waiting_by_prompts() {
    let mut pages = vec![Page {
        prompt: 4,
        answer: 40,
    }];
    pages.extend(
        [Page {
            prompt: 1300,
            answer: 3,
        }; 6],
    );
    let mut decoder = Scripted::new(100_000);
    run(&mut decoder, SETTINGS, rules(), &pages);
    for (at, step) in decoder.steps.iter().enumerate() {
        let n_prompt: usize = step.rows.iter().map(|row| row.1).sum();
        assert!(n_prompt <= 1024, "step {at}: {step:?}");
        if at < 41 {
            assert_eq!(
                step.rows.iter().filter(|row| row.0 == 0).count(),
                1,
                "step {at}"
            );
        }
    }
    let prompts: usize = decoder
        .steps
        .iter()
        .flat_map(|step| &step.rows)
        .map(|row| row.1)
        .sum();
    assert_eq!(prompts, 4 + 6 * 1300);
}

#[test]
fn answers_end_at_their_length_and_at_the_limit_of_positions() {
    let pages = [Page {
        prompt: 100,
        answer: 100_000,
    }];
    let short = Rules {
        max_new_tokens: 64,
        ..rules()
    };
    let mut decoder = Scripted::new(100_000);
    let written = run(&mut decoder, SETTINGS, short, &pages);
    assert_eq!(written.written(0).reason, FinishReason::Length);
    assert_eq!(written.written(0).tokens.len(), 64);
    let written = run(&mut decoder, SETTINGS, rules(), &pages);
    assert_eq!(written.written(0).reason, FinishReason::Length);
    assert_eq!(written.written(0).tokens.len(), 8192 - 100);
    // A cache smaller than the limit is a limit.
    let mut decoder = Scripted::new(300);
    let written = run(&mut decoder, SETTINGS, rules(), &pages);
    assert_eq!(written.written(0).tokens.len(), 200);
}

#[test]
fn a_page_that_loops_is_cut_and_its_neighbors_are_not() {
    fn script(page: u32, at: u32) -> u32 {
        match page {
            1 if at >= 200 => 50 + at % 80,
            _ => token(page, at),
        }
    }
    let pages = [3000, 7000, 900].map(|answer| Page { prompt: 10, answer });
    let mut decoder = Scripted::with_script(100_000, script);
    let run = run(&mut decoder, SETTINGS, rules(), &pages);
    let cut = run.written(1);
    assert_eq!(cut.reason, FinishReason::Repetition);
    assert!(cut.tokens.len() < 900, "after {} tokens", cut.tokens.len());
    assert!((200..=300).contains(&cut.n_kept), "{} kept", cut.n_kept);
    for page in [0, 2] {
        assert_eq!(run.written(page).reason, FinishReason::Stop);
    }
}

#[test]
fn forbidden_tokens_are_not_written() {
    let never = token(0, 3);
    let rules = Rules {
        never: vec![never],
        ..rules()
    };
    let pages = [Page {
        prompt: 2,
        answer: 10,
    }];
    let mut decoder = Scripted::new(10_000);
    let run = run(&mut decoder, SETTINGS, rules, &pages);
    assert_eq!(run.written(0).tokens[3], never + 1);
}

#[test]
fn places_are_given_back_when_the_work_is_abandoned() {
    let mut decoder = Scripted::new(100_000);
    let rules = Arc::new(rules());
    let mut batcher = Batcher::new(&mut decoder, SETTINGS, Meters::of("test"));
    for id in 0..5 {
        let page = Page {
            prompt: 20,
            answer: 100,
        };
        let question = question(batcher.decoder(), &rules, id, page);
        batcher.push(question);
    }
    batcher.step();
    assert_eq!(batcher.n_running(), 5);
    drop(batcher);
    assert_eq!(decoder.held(), 0);
}

#[test]
fn what_has_begun_goes_before_what_has_not() {
    let mut decoder = Scripted::new(100_000);
    let rules = Arc::new(rules());
    let settings = BatchSettings {
        places: 1,
        ..SETTINGS
    };
    let mut batcher = Batcher::new(&mut decoder, settings, Meters::of("test"));
    let page = Page {
        prompt: 2,
        answer: 3,
    };
    for id in 0..3 {
        let question = question(batcher.decoder(), &rules, id, page);
        batcher.push(question);
    }
    let urgent = question(batcher.decoder(), &rules, 9, page);
    batcher.push_first(urgent);
    let mut order = Vec::new();
    while !batcher.is_idle() {
        order.extend(batcher.step().into_iter().map(|answered| answered.tag));
    }
    assert_eq!(order, [9, 0, 1, 2]);
}
