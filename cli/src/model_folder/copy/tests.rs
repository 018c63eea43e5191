//! A copy is whole, is made once, follows its source, and survives being stopped.

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use tempfile::TempDir;

use super::*;

struct Place {
    source: Source,
    cache: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            source: Source {
                store: Arc::new(InMemory::new()),
                prefix: Key::from("models/ocr"),
                uri: "s3://bucket/models/ocr".to_owned(),
            },
            cache: tempfile::tempdir().unwrap(),
        }
    }

    async fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        let key = self.source.prefix.clone().join(name);
        let payload = PutPayload::from(bytes.into());
        self.source.store.put(&key, payload).await.unwrap();
    }

    async fn copy(&self) -> Outcome<PathBuf> {
        copied(&self.source, self.cache.path()).await
    }

    async fn put_checkpoint(&self) {
        self.put(CONFIG_FILE, "{}").await;
        self.put(TOKENIZER_FILE, "{\"version\": 1}").await;
        let shards = ["a.safetensors", "b.safetensors"];
        let index = serde_json::json!({ "weight_map": { "x": shards[0], "y": shards[1] } });
        self.put(INDEX_FILE, index.to_string()).await;
        self.put(shards[0], large()).await;
        self.put(shards[1], "b").await;
        self.put("README.md", "not asked for").await;
    }
}

/// Larger than a few requests, and not a multiple of one.
fn large() -> Vec<u8> {
    (0..3 * PIECE as usize + 17)
        .map(|at| (at % 251) as u8)
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_of_a_checkpoint_are_copied_whole_and_no_others() {
    let place = Place::new();
    place.put_checkpoint().await;
    let folder = place.copy().await.unwrap();
    let expected = [
        "a.safetensors",
        "b.safetensors",
        CONFIG_FILE,
        COPIED_FILE,
        INDEX_FILE,
        TOKENIZER_FILE,
    ];
    assert_eq!(names(&folder), expected);
    assert!(std::fs::read(folder.join("a.safetensors")).unwrap() == large());
}

#[tokio::test]
async fn copy_is_made_once_and_follows_what_changes() {
    let place = Place::new();
    place.put_checkpoint().await;
    let folder = place.copy().await.unwrap();
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(folder.join(name)).unwrap().ino()
    };
    let before = ["a.safetensors", "b.safetensors"].map(inode);
    place.put("b.safetensors", "B").await;
    assert_eq!(place.copy().await.unwrap(), folder);
    assert_eq!(inode("a.safetensors"), before[0]);
    assert_eq!(std::fs::read(folder.join("b.safetensors")).unwrap(), b"B");
}

#[tokio::test]
async fn file_that_was_spoiled_is_copied_again() {
    let place = Place::new();
    place.put_checkpoint().await;
    let folder = place.copy().await.unwrap();
    let path = folder.join("a.safetensors");
    let mut spoiled = large();
    spoiled[12_345] ^= 1;
    std::fs::write(&path, spoiled).unwrap();
    place.copy().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == large());
    std::fs::write(&path, "short").unwrap();
    place.copy().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == large());
}

#[tokio::test]
async fn stopped_copy_goes_on_where_it_was() {
    let place = Place::new();
    place.put_checkpoint().await;
    let folder = place.copy().await.unwrap();
    let text = std::fs::read(folder.join(COPIED_FILE)).unwrap();
    let copied: Copied = serde_json::from_slice(&text).unwrap();
    let known = copied.files["a.safetensors"].clone();
    assert_eq!(known.sha256, hex::encode(Sha256::digest(large())));
    let unfinished = folder.join(format!("a.safetensors{UNFINISHED}"));
    let start = 2 * PIECE as usize + 5;
    // As a machine leaves it that lost its power: what was not made sure of may be anything.
    let left = [&large()[..start], &[7; 1000]].concat();
    for tag in [known.tag.as_str(), "another"] {
        std::fs::remove_file(folder.join("a.safetensors")).unwrap();
        std::fs::write(&unfinished, &left).unwrap();
        let mut copied = recall(&folder.join(COPIED_FILE), &place.source.uri);
        copied.unfinished = Some(Unfinished {
            name: "a.safetensors".to_owned(),
            tag: tag.to_owned(),
            bytes: start as u64,
        });
        let text = serde_json::to_vec(&copied).unwrap();
        std::fs::write(folder.join(COPIED_FILE), text).unwrap();
        place.copy().await.unwrap();
        assert!(std::fs::read(folder.join("a.safetensors")).unwrap() == large());
        assert!(!unfinished.exists());
    }
    // What was kept is not asked for again: the digest tells of bytes that the store never had.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    std::fs::write(&path, b"kept and more").unwrap();
    let sink = Sink::open(&path, 4).unwrap().write(b" whole").unwrap();
    let digest = sink.finish(&path, &folder.path().join("done")).unwrap();
    assert_eq!(digest, hex::encode(Sha256::digest("kept whole")));
}

#[tokio::test]
async fn what_is_no_checkpoint_is_refused() {
    let place = Place::new();
    let refused = async |part: &str| {
        let failure = place.copy().await.unwrap_err();
        assert!(failure.report().contains(part), "{}", failure.report());
    };
    refused("there is no config.json at s3://bucket/models/ocr").await;
    place.put(CONFIG_FILE, "{}").await;
    refused("holds 0 safetensors files").await;
    let index = |file: &str| serde_json::json!({ "weight_map": { "x": file } }).to_string();
    place.put(INDEX_FILE, index("../secret.safetensors")).await;
    refused("is no safetensors file beside it").await;
    place.put(INDEX_FILE, index("gone.safetensors")).await;
    refused("there is no gone.safetensors at s3://bucket/models/ocr").await;
}

#[tokio::test]
async fn single_file_needs_no_index() {
    let place = Place::new();
    place.put(CONFIG_FILE, "{}").await;
    place.put("weights.safetensors", "w").await;
    let folder = place.copy().await.unwrap();
    assert_eq!(
        names(&folder),
        [CONFIG_FILE, COPIED_FILE, "weights.safetensors"]
    );
    place.put("more.safetensors", "m").await;
    place.copy().await.unwrap_err();
    place.put(SINGLE_FILE, "s").await;
    let folder = place.copy().await.unwrap();
    assert_eq!(names(&folder), [CONFIG_FILE, COPIED_FILE, SINGLE_FILE]);
}
