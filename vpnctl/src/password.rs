//! Passwords: from the terminal without echo, from standard input, from a file; never from an argument.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    path::Path,
};

use proto::api::{ErrorCode, Password, Secret};
use zeroize::Zeroizing;

use crate::{
    cli::{KeySource, PasswordSource},
    failure::Failure,
};

/// The shortest password that an account is created with, in characters.
const SHORTEST: usize = 8;

/// The longest password, in bytes. Reading stops there, so a wrong file is an error and not a wait.
const LONGEST: usize = 1024;

/// How every token begins.
const START: &str = "tacet-";

/// The longest token, in bytes.
const LONGEST_TOKEN: usize = 8192;

/// The password of an account that exists.
pub(crate) fn present(source: &PasswordSource) -> Result<Password, Failure> {
    match given(source)? {
        Some(password) => Ok(password),
        None => ask("Password: "),
    }
}

/// The password of a new account: asked for twice, and not too short.
pub(crate) fn new(source: &PasswordSource) -> Result<Password, Failure> {
    let password = match given(source)? {
        Some(password) => password,
        None => ask("New password: ")?,
    };
    if String::from_utf8_lossy(password.expose()).chars().count() < SHORTEST {
        return Err(Failure::new(
            ErrorCode::Usage,
            "the password was not taken",
            format!("it has fewer than {SHORTEST} characters"),
            "choose a longer one; a few random words do well",
        ));
    }
    if given_by_option(source) || ask("The same again: ")? == password {
        return Ok(password);
    }
    Err(Failure::new(
        ErrorCode::Usage,
        "the password was not taken",
        "it was not the same both times",
        "type the command again",
    ))
}

/// A token as typed, or from standard input if it is `-`. Blanks and line breaks, which copying brings in, are dropped.
pub(crate) fn token(argument: &str) -> Result<Secret, Failure> {
    let text = if argument == "-" {
        let bytes = read_stdin(LONGEST_TOKEN).map_err(|why| unread("standard input", &why))?;
        Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
    } else {
        Zeroizing::new(argument.to_owned())
    };
    sound(&text)
}

/// The recovery key: from the terminal without echo, from standard input or from a file.
pub(crate) fn recovery_key(source: &KeySource) -> Result<Secret, Failure> {
    let (bytes, name) = if source.key_stdin {
        (read_stdin(LONGEST_TOKEN), "standard input".to_owned())
    } else if let Some(path) = &source.key_file {
        (read_file(path, LONGEST_TOKEN), path.display().to_string())
    } else {
        let typed = rpassword::prompt_password("Recovery key: ").map(Zeroizing::new).map_err(|_| {
            let why = "there is no terminal";
            let next = "use --key-stdin or --key-file FILE";
            Failure::new(ErrorCode::Usage, "the recovery key could not be asked for", why, next)
        })?;
        return sound(&typed);
    };
    let bytes = bytes.map_err(|why| unread(&name, &why))?;
    sound(&Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

fn sound(text: &str) -> Result<Secret, Failure> {
    let token = Secret::new(text.split_whitespace().collect());
    let sound = token.expose().get(..START.len()).is_some_and(|start| start.eq_ignore_ascii_case(START))
        && token.expose().len() <= LONGEST_TOKEN
        && token.expose().chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if sound {
        return Ok(token);
    }
    Err(Failure::new(
        ErrorCode::InvalidToken,
        "that is not a token",
        "a token is one word of letters, digits and hyphens that begins with tacet-",
        "copy it whole from where it was printed",
    ))
}

fn given_by_option(source: &PasswordSource) -> bool {
    source.password_stdin || source.password_file.is_some()
}

fn given(source: &PasswordSource) -> Result<Option<Password>, Failure> {
    let (bytes, name) = if source.password_stdin {
        (read_stdin(LONGEST), "standard input".to_owned())
    } else if let Some(path) = &source.password_file {
        (read_file(path, LONGEST), path.display().to_string())
    } else {
        return Ok(None);
    };
    let mut bytes = bytes.map_err(|why| unread(&name, &why))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(unread(&name, "it is empty"));
    }
    Ok(Some(Password::new(std::mem::take(&mut *bytes))))
}

/// Reads past the standard library's buffer, which would keep a copy.
fn read_stdin(longest: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    read(File::from(stdin), longest)
}

fn read_file(path: &Path, longest: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    read(File::open(path).map_err(|error| error.to_string())?, longest)
}

/// All of `source`, at most `longest` bytes, in one buffer that never moves.
fn read(mut source: impl Read, longest: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let room = longest + 1;
    let mut bytes = Zeroizing::new(vec![0; room]);
    let mut filled = 0;
    while filled < room {
        match source.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    if filled == room {
        return Err(format!("it is longer than {longest} bytes"));
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn unread(name: &str, why: &str) -> Failure {
    Failure::new(
        ErrorCode::Usage,
        "the secret could not be read",
        format!("{name}: {why}"),
        "check the option",
    )
}

fn ask(prompt: &str) -> Result<Password, Failure> {
    let typed = rpassword::prompt_password(prompt).map_err(|_| {
        Failure::new(
            ErrorCode::Usage,
            "the password could not be asked for",
            "there is no terminal",
            "use --password-stdin or --password-file FILE",
        )
    })?;
    if typed.is_empty() {
        return Err(Failure::new(
            ErrorCode::Usage,
            "no password was typed",
            "the line was empty",
            "type the command again",
        ));
    }
    Ok(Password::new(typed.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_token_is_refused_before_anybody_is_asked() {
        for good in ["tacet-invite1abc", "  TACET-Invite1\n abc "] {
            assert!(token(good).is_ok(), "{good}");
        }
        let endless = format!("tacet-invite1{}", "a".repeat(LONGEST_TOKEN));
        for bad in ["", "x", "tacet", "hello", "nonsense1abc", "tacet-invite1$(reboot)", "é-tacet-", &endless]
        {
            let failure = token(bad).err();
            assert!(
                matches!(failure, Some(Failure::Told(error)) if error.code == ErrorCode::InvalidToken),
                "{}",
                bad.len()
            );
        }
    }
}
