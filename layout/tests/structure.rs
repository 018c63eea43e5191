//! What becomes of a page's parts: headings, paragraphs, lists, tables, pictures, listings,
//! furniture.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use quire_core::{Block, Label, PageImage};
use quire_layout::{ComposedPage, compose};

use support::Sheet;

const PROSE: [&str; 8] = [
    "The gauge was cleaned on 4 March and again on the last",
    "day of April. Between those dates it recorded all of its",
    "readings at intervals of a quarter of an hour and most of",
    "them were kept because the float had not fouled on kelp",
    "in the night. The highest level came at noon on the day",
    "after the predicted peak and the lowest in the evening of",
    "a long easterly. Residuals stayed within a hand for most",
    "of the record and nobody asked for more than that now.",
];

fn composed(sheet: &Sheet) -> ComposedPage {
    compose(sheet.input())
}

fn labels(page: &ComposedPage) -> Vec<Label> {
    page.blocks.iter().map(|block| block.label).collect()
}

fn only(page: &ComposedPage, label: Label) -> &Block {
    let mut found = page.blocks.iter().filter(|block| block.label == label);
    let first = found.next().expect("a block of this kind");
    assert!(found.next().is_none(), "more than one {label}");
    first
}

/// Joins rows and gives the text.
fn joined(rows: &[&str]) -> String {
    let mut sheet = Sheet::default();
    sheet.lines(100.0, 400.0, rows);
    composed(&sheet).text
}

#[test]
fn an_empty_page_is_empty() {
    assert_eq!(composed(&Sheet::default()), ComposedPage::default());
}

#[test]
fn typeset_hyphens_heal_and_real_ones_stay() {
    for (first, second, expected) in [
        (
            "and it is read by the com-",
            "mittee before the meeting starts at noon",
            "committee",
        ),
        (
            "which had been a well-",
            "known place to everybody in the village",
            "well-known",
        ),
        (
            "this is all due to Navier-",
            "Stokes and to nobody else in the village",
            "Navier-Stokes",
        ),
        (
            "these are good for two- ",
            "and three-column pages in any book or so",
            "two- and three",
        ),
        (
            "it is the state-of-the-",
            "art machine that everybody wants to have",
            "state-of-the-art",
        ),
        (
            "damit sind sowohl Vor-",
            "und Nachteile der ganzen Sache benannt",
            "Vor- und Nachteile",
        ),
        (
            "and the words are a soft\u{AD}",
            "ware that reads and writes by itself now",
            "software",
        ),
        (
            "see more on the page at https://a.org/",
            "paths and files of the house",
            "https://a.org/paths",
        ),
    ] {
        let text = joined(&[first, second]);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_hyphen_stays_where_the_page_writes_the_word_with_one() {
    let text = joined(&[
        "A pre-print is what we read and a pre-",
        "print it stays until the end of the year",
    ]);
    assert!(text.contains("and a pre-print it stays"), "{text}");
}

#[test]
fn chinese_joins_without_spaces_and_mixed_text_as_the_page_does() {
    assert_eq!(
        joined(&[
            "先把碎片用清水浸透再用软毛刷一点一点刷去断口上",
            "的泥不要着急断口若留有沙粒"
        ]),
        "先把碎片用清水浸透再用软毛刷一点一点刷去断口上的泥不要着急断口若留有沙粒"
    );
    let spaced = joined(&[
        "这里的 Worker 从队列领取任务然后用 Object",
        "存储写入结果再由 Worker 报告给队列的主人",
    ]);
    assert!(spaced.contains("Object 存储"), "{spaced}");
    let tight = joined(&[
        "这里的Worker从队列领取任务然后用的是Object",
        "存储写入结果再由Worker报告给队列的主人们",
    ]);
    assert!(tight.contains("Object存储"), "{tight}");
}

#[test]
fn columns_are_read_one_after_the_other_under_a_full_width_title() {
    let mut sheet = Sheet::default();
    sheet.line(150.0, 100.0, 40.0, "A Title Across Both Columns Here");
    sheet.lines(60.0, 200.0, &PROSE.map(|line| &line[..42]));
    sheet.lines(520.0, 200.0, &PROSE.map(|line| &line[3..45]));
    let page = composed(&sheet);
    assert_eq!(page.blocks[0].label, Label::Title);
    assert!(
        page.text
            .starts_with("# A Title Across Both Columns Here\n\nThe gauge was cleaned")
    );
    let first_of_right = page
        .lines
        .iter()
        .position(|line| line.rect.x0 > 0.5)
        .unwrap();
    assert!(
        page.lines[..first_of_right]
            .iter()
            .all(|line| line.rect.x0 < 0.5)
    );
    assert_eq!(first_of_right, 9);
}

#[test]
fn a_full_width_band_parts_two_stretches_of_columns() {
    let mut sheet = Sheet::default();
    for top in [100.0, 500.0] {
        sheet.lines(60.0, top, &PROSE.map(|line| &line[..42]));
        sheet.lines(520.0, top, &PROSE.map(|line| &line[3..45]));
    }
    sheet.line(
        60.0,
        390.0,
        20.0,
        "This one line of text goes from the left edge to the right edge of the page, all of it.",
    );
    let page = composed(&sheet);
    let at = page
        .lines
        .iter()
        .position(|line| line.text.starts_with("This one line"))
        .unwrap();
    assert_eq!(at, 16);
}

#[test]
fn indented_first_lines_start_paragraphs() {
    let mut sheet = Sheet::default();
    sheet.lines(100.0, 300.0, &PROSE[..3]);
    sheet.line(100.0, 372.0, 20.0, "and that was the end of it.");
    sheet.line(
        130.0,
        396.0,
        20.0,
        "A new one begins here and it goes on for a while so",
    );
    sheet.line(
        100.0,
        420.0,
        20.0,
        "that it fills more than one line of the column and it",
    );
    sheet.line(100.0, 444.0, 20.0, "ends here.");
    let page = composed(&sheet);
    assert_eq!(labels(&page), [Label::Text, Label::Text]);
    assert!(page.blocks[1].text.starts_with("A new one begins"));
}

#[test]
fn short_lines_keep_their_breaks() {
    let mut sheet = Sheet::default();
    sheet.lines(
        100.0,
        300.0,
        &[
            "Quire and Daughters",
            "12 Harrow Lane",
            "Port Ellery, in the county of Tides",
        ],
    );
    let page = composed(&sheet);
    assert_eq!(
        page.text,
        "Quire and Daughters\n12 Harrow Lane\nPort Ellery, in the county of Tides"
    );
}

#[test]
fn headings_have_levels_by_number_and_size() {
    let mut sheet = Sheet::default();
    sheet.line(100.0, 80.0, 44.0, "Of Tide Gauges");
    sheet.line(100.0, 180.0, 28.0, "1 Introduction");
    sheet.lines(100.0, 230.0, &PROSE[..4]);
    sheet.line(100.0, 370.0, 28.0, "1.1 Earlier work");
    sheet.lines(100.0, 420.0, &PROSE[4..]);
    let page = composed(&sheet);
    assert!(
        page.text
            .starts_with("# Of Tide Gauges\n\n## 1 Introduction\n\n")
    );
    assert!(page.text.contains("\n\n### 1.1 Earlier work\n\n"));
    let levels: Vec<Option<u32>> = page.blocks.iter().map(|block| block.level).collect();
    assert_eq!(levels, [Some(1), Some(2), None, Some(3), None]);
}

#[test]
fn lists_nest_by_indentation_and_keep_their_printed_marks_in_plain_text() {
    let mut sheet = Sheet::default();
    sheet.lines(
        100.0,
        300.0,
        &["• first of all", "• second, which is", "• third of them"],
    );
    sheet.line(140.0, 372.0, 20.0, "– deeper still");
    sheet.line(140.0, 396.0, 20.0, "– and again");
    sheet.line(100.0, 420.0, 20.0, "• fourth and last");
    let page = composed(&sheet);
    assert_eq!(
        page.text,
        "- first of all\n\n- second, which is\n\n- third of them\n\n    - deeper still\n\n    - and again\n\n- fourth and last"
    );
    assert!(
        page.blocks
            .iter()
            .all(|block| block.label == Label::ListItem)
    );
    assert_eq!(page.blocks[3].text, "– deeper still");
    assert_eq!(
        (page.blocks[3].level, page.blocks[3].parent),
        (Some(2), Some(2))
    );
    assert_eq!(
        (page.blocks[5].level, page.blocks[5].parent),
        (Some(1), None)
    );
}

#[test]
fn a_lone_number_at_a_line_start_is_escaped_text() {
    let mut sheet = Sheet::default();
    sheet.lines(
        100.0,
        300.0,
        &["12. It was the day on which the tap was dry."],
    );
    assert_eq!(
        composed(&sheet).text,
        "12\\. It was the day on which the tap was dry."
    );
}

#[test]
fn a_table_becomes_html_and_tabs() {
    let mut sheet = Sheet::default();
    for (row, cells) in [
        ["Part", "Qty", "Price <€>"],
        ["Gate & latch", "53", "752.42"],
        ["Hinge", "9", "6.10"],
    ]
    .iter()
    .enumerate()
    {
        for (column, cell) in cells.iter().enumerate() {
            sheet.line(
                100.0 + 200.0 * column as f32,
                300.0 + 30.0 * row as f32,
                20.0,
                cell,
            );
        }
    }
    let page = composed(&sheet);
    let table = only(&page, Label::Table);
    assert_eq!(
        table.text,
        "Part\tQty\tPrice <€>\nGate & latch\t53\t752.42\nHinge\t9\t6.10"
    );
    assert_eq!(page.text, *table.html.as_ref().unwrap());
    assert!(
        page.text
            .contains("<tr><td>Gate &amp; latch</td><td>53</td><td>752.42</td></tr>")
    );
}

#[test]
fn table_cells_of_several_lines_stay_together() {
    let mut sheet = Sheet::default();
    sheet.region("table", [90.0, 290.0, 720.0, 460.0]);
    sheet
        .line(100.0, 300.0, 20.0, "grep")
        .line(300.0, 300.0, 20.0, "find a text in files");
    // The name stands beside the middle of its description.
    sheet
        .line(100.0, 342.0, 20.0, "tar")
        .line(300.0, 330.0, 20.0, "pack and unpack, list what")
        .line(300.0, 354.0, 20.0, "is inside");
    sheet
        .line(100.0, 396.0, 20.0, "mkdir")
        .line(300.0, 384.0, 20.0, "make a folder, and those")
        .line(300.0, 408.0, 20.0, "above it");
    let page = composed(&sheet);
    assert_eq!(
        only(&page, Label::Table).text,
        "grep\tfind a text in files\ntar\tpack and unpack, list what is inside\nmkdir\tmake a folder, and those above it"
    );
}

#[test]
fn pictures_are_referenced_by_index_and_captions_stand_by_them() {
    let mut sheet = Sheet::default();
    sheet.lines(100.0, 100.0, &PROSE[..4]);
    sheet.region("figure", [200.0, 220.0, 700.0, 500.0]);
    sheet.line(400.0, 300.0, 20.0, "inlet");
    sheet.line(300.0, 520.0, 20.0, "Figure 3: The float and the inlet");
    sheet.lines(100.0, 580.0, &PROSE[4..]);
    let page = composed(&sheet);
    assert_eq!(
        labels(&page),
        [Label::Text, Label::Picture, Label::Caption, Label::Text]
    );
    assert_eq!(page.blocks[2].parent, Some(1));
    assert_eq!(page.blocks[1].text, "inlet");
    assert!(
        page.text
            .contains("\n\n![](#1)\n\nFigure 3: The float and the inlet\n\n")
    );
    assert!(!page.text.contains("\n\ninlet"));
}

#[test]
fn a_picture_full_of_sentences_is_text() {
    let mut sheet = Sheet::default();
    sheet.lines(100.0, 300.0, &PROSE);
    sheet.region("figure", [80.0, 280.0, 720.0, 520.0]);
    let page = composed(&sheet);
    assert_eq!(labels(&page), [Label::Text]);
}

#[test]
fn listings_are_fenced_with_their_indentation() {
    let mut sheet = Sheet::default();
    sheet.lines(100.0, 100.0, &PROSE[..4]);
    sheet
        .line(100.0, 240.0, 20.0, "fn main() {")
        .line(140.0, 264.0, 20.0, "let x = gauge(3);");
    sheet
        .line(140.0, 288.0, 20.0, "println!(\"{x}\");")
        .line(100.0, 312.0, 20.0, "}");
    let page = composed(&sheet);
    assert!(
        page.text
            .ends_with("```\nfn main() {\n    let x = gauge(3);\n    println!(\"{x}\");\n}\n```"),
        "{}",
        page.text
    );
    assert_eq!(page.blocks.last().unwrap().label, Label::Code);
}

#[test]
fn furniture_is_kept_out_of_the_text_and_never_lost() {
    let mut sheet = Sheet::default();
    sheet
        .line(100.0, 50.0, 18.0, "Annals of Tide Gauges")
        .region("header", [90.0, 45.0, 400.0, 72.0]);
    sheet.lines(100.0, 200.0, &PROSE);
    sheet.line(490.0, 1340.0, 18.0, "17");
    let page = composed(&sheet);
    assert_eq!(
        labels(&page),
        [Label::PageHeader, Label::Text, Label::PageNumber]
    );
    assert!(page.text.starts_with("The gauge") && !page.text.contains("17"));
    assert_eq!(page.blocks[2].text, "17");
    assert!(page.blocks[0].text_range.is_none() && page.blocks[2].text_range.is_none());
}

#[test]
fn body_text_is_no_furniture_however_it_is_labelled() {
    let mut sheet = Sheet::default();
    sheet
        .lines(100.0, 40.0, &PROSE)
        .region("header", [90.0, 30.0, 720.0, 90.0]);
    assert_eq!(labels(&composed(&sheet)), [Label::Text]);
    let mut title = Sheet::default();
    title
        .line(100.0, 50.0, 34.0, "Annals of Tide Gauges")
        .region("header", [90.0, 45.0, 500.0, 90.0]);
    title.lines(100.0, 200.0, &PROSE);
    assert_eq!(composed(&title).blocks[0].label, Label::Title);
}

#[test]
fn formulas_keep_their_number_and_their_text() {
    let mut sheet = Sheet::default();
    sheet.lines(100.0, 100.0, &PROSE[..4]);
    sheet
        .line(300.0, 220.0, 20.0, "h(t) = a + b cos t")
        .region("equation", [280.0, 210.0, 600.0, 250.0]);
    sheet.line(640.0, 220.0, 20.0, "(4)");
    sheet.lines(100.0, 280.0, &PROSE[4..]);
    let page = composed(&sheet);
    assert_eq!(labels(&page), [Label::Text, Label::Formula, Label::Text]);
    assert_eq!(page.blocks[1].text, "h(t) = a + b cos t (4)");
}

#[test]
fn right_to_left_pages_are_read_from_the_right() {
    let mut sheet = Sheet::default();
    sheet.boxed([520.0, 300.0, 900.0, 320.0], "هذا نص في بداية السطر");
    sheet.boxed([100.0, 300.0, 500.0, 320.0], "وهذا ما يأتي بعده");
    let page = composed(&sheet);
    assert_eq!(page.lines[0].text, "هذا نص في بداية السطر");
}

#[test]
fn vertical_columns_are_read_from_the_right() {
    let mut sheet = Sheet::default();
    sheet.boxed(
        [700.0, 100.0, 730.0, 800.0],
        "學而時習之不亦說乎有朋自遠方來",
    );
    sheet.boxed(
        [650.0, 100.0, 680.0, 800.0],
        "不亦樂乎人不知而不慍不亦君子乎",
    );
    sheet.boxed([600.0, 100.0, 630.0, 500.0], "其為人也孝弟而好犯上者");
    let page = composed(&sheet);
    assert_eq!(
        page.text,
        "學而時習之不亦說乎有朋自遠方來不亦樂乎人不知而不慍不亦君子乎其為人也孝弟而好犯上者"
    );
}

/// The sheet's page image with black rules from one x to another at some heights.
fn ruled(x: std::ops::Range<usize>, heights: &[usize]) -> PageImage {
    let mut image = PageImage::white(1000, 1400);
    for &y in heights {
        for row in [y, y + 1] {
            image.rgb[(row * 1000 + x.start) * 3..(row * 1000 + x.end) * 3].fill(0);
        }
    }
    image
}

#[test]
fn rules_tell_which_lines_make_a_table_row() {
    let mut sheet = Sheet::default();
    for (row, texts) in [
        ["stop name", "Stop a service,"],
        [".service", "system daemon."],
        ["halt", "Halt the system."],
        ["poweroff", "Shut it down."],
        ["start name", "Start a service,"],
        [".service", "system daemon."],
    ]
    .iter()
    .enumerate()
    {
        let y = 300.0 + 22.0 * row as f32;
        sheet
            .line(100.0, y, 20.0, texts[0])
            .line(300.0, y, 20.0, texts[1]);
    }
    let image = ruled(90..600, &[297, 342, 364, 386, 430]);
    let mut input = sheet.input();
    input.image = Some(&image);
    let page = compose(input);
    assert_eq!(
        only(&page, Label::Table).text,
        "stop name .service\tStop a service, system daemon.\nhalt\tHalt the system.\npoweroff\tShut it down.\nstart name .service\tStart a service, system daemon."
    );
}

#[test]
fn a_rule_between_sections_of_a_table_merges_no_rows() {
    let mut sheet = Sheet::default();
    for (row, texts) in [
        ["Beans", "39.41"],
        ["Milk", "7.34"],
        ["Rye", "17.75"],
        ["Soap", "10.19"],
        ["Total", "74.69"],
        ["Cash", "80.00"],
    ]
    .iter()
    .enumerate()
    {
        let y = 300.0 + 24.0 * row as f32;
        sheet
            .line(100.0, y, 20.0, texts[0])
            .line(400.0, y, 20.0, texts[1]);
    }
    let image = ruled(90..600, &[394]);
    let mut input = sheet.input();
    input.image = Some(&image);
    let page = compose(input);
    assert_eq!(
        only(&page, Label::Table).text,
        "Beans\t39.41\nMilk\t7.34\nRye\t17.75\nSoap\t10.19\nTotal\t74.69\nCash\t80.00"
    );
}

#[test]
fn names_and_addresses_under_a_title_are_read_one_after_the_other() {
    let mut sheet = Sheet::default();
    sheet.line(200.0, 100.0, 40.0, "On the Name of the Title");
    for (x, texts) in [
        (250.0, ["Lars Thorvald", "The Thorvald Group", "Hekla"]),
        (
            700.0,
            [
                "Valerie Beranger",
                "Inria Institute",
                "Rocquencourt, France",
            ],
        ),
    ] {
        for (row, text) in texts.iter().enumerate() {
            let width = text.len() as f32 * 10.0;
            let y = 200.0 + 24.0 * row as f32;
            sheet.boxed([x - width / 2.0, y, x + width / 2.0, y + 20.0], text);
        }
    }
    sheet.lines(100.0, 400.0, &PROSE);
    let page = composed(&sheet);
    assert!(page.text.contains("Lars Thorvald\nThe Thorvald Group\nHekla\n\nValerie Beranger\nInria Institute\nRocquencourt, France\n\n"), "{}", page.text);
}

#[test]
fn contents_keep_one_line_an_entry() {
    let mut sheet = Sheet::default();
    for (row, (text, number)) in [
        ("Preface", "xi"),
        ("1 Security . . . . . . . . . .", "1"),
        ("1.1 Fundamentals . . . . . . .", "2"),
        ("1.2 Current state . . . . . .", "2"),
        ("2 Roles . . . . . . . . . . .", "7"),
    ]
    .iter()
    .enumerate()
    {
        let y = 300.0 + 24.0 * row as f32;
        sheet
            .line(100.0, y, 20.0, text)
            .line(700.0, y, 20.0, number);
    }
    let page = composed(&sheet);
    assert!(page.blocks.iter().all(|block| block.label != Label::Table));
    assert!(
        page.text
            .contains("1.1 Fundamentals . . . . . . . 2\n1.2 Current state . . . . . . 2\n"),
        "{}",
        page.text
    );
}
