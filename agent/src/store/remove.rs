//! Removes what the store wrote, and nothing else that an operator may have put beside it.

use std::path::PathBuf;
use std::{fs, io};

use super::{Config, FILE_NAME};

/// Removes the database (with those set aside as damaged) and the state directory if nothing else is in it. Returns the
/// files removed; a directory that is not there is no error.
///
/// # Errors
///
/// The file system's own.
pub fn remove(config: &Config) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(&config.directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut removed = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_file()
            && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(FILE_NAME.as_bytes()))
        {
            fs::remove_file(&path)?;
            removed.push(path);
        }
    }
    removed.sort();
    match fs::remove_dir(&config.directory) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(removed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_stores_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = Config { directory: directory.path().join("state"), ..Config::default() };
        assert!(remove(&config).expect("nothing there").is_empty());
        fs::create_dir(&config.directory).expect("made");
        for name in ["breachline.redb", "breachline.redb.corrupt-1", "notes.txt"] {
            fs::write(config.directory.join(name), "").expect("written");
        }
        assert_eq!(remove(&config).expect("removed").len(), 2);
        assert!(config.directory.join("notes.txt").exists());
        fs::remove_file(config.directory.join("notes.txt")).expect("removed");
        remove(&config).expect("removed");
        assert!(!config.directory.exists());
    }
}
