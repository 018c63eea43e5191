//! Bytes on their way from a server: small objects in memory, others in a file without a name.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;

use crate::object::Object;

/// Objects up to this size are held in memory, like a piece of an object in a store.
const MEMORY_BYTES: usize = 16 << 20;

/// Takes the bytes of one object.
#[derive(Debug)]
pub(super) struct Spool {
    folder: Option<PathBuf>,
    memory: BytesMut,
    file: Option<File>,
    len: u64,
}

impl Spool {
    /// For temporary files in `folder`, or where the system keeps them.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            memory: BytesMut::new(),
            file: None,
            len: 0,
        }
    }

    /// Bytes taken.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Takes more. Writes to a file block: for threads that may.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len() as u64;
        if let Some(file) = &mut self.file {
            return file.write_all(bytes);
        }
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > MEMORY_BYTES {
            // It has no name, so nothing stays behind, whatever ends this process.
            let mut file = match &self.folder {
                Some(folder) => tempfile::tempfile_in(folder)?,
                None => tempfile::tempfile()?,
            };
            file.write_all(&self.memory)?;
            self.memory = BytesMut::new();
            self.file = Some(file);
        }
        Ok(())
    }

    /// All of them as an object.
    pub(super) fn into_object(self) -> Object {
        match self.file {
            Some(file) => Object::File {
                file: Arc::new(file),
                len: self.len,
            },
            None => Object::Memory(self.memory.freeze()),
        }
    }
}
