use super::line::{Lines, TooLong, encode};
use super::{Answer, Command, ErrorCode, Password, Progress, Reply, Request, RequestError, Secret};

fn line_of(request: &Request) -> String {
    String::from_utf8(encode(request).to_vec()).unwrap()
}

#[test]
fn a_request_is_one_line_that_reads_back() {
    let request = Request::new(
        Some("home".to_owned()),
        Command::AccountLogin {
            name: "ann\n".to_owned(),
            coordinator: None,
            pin: None,
            password: Password::new(b"p\"w\\\n".to_vec()),
        },
    );
    let line = line_of(&request);
    assert_eq!(line.matches('\n').count(), 1);
    assert!(Request::parse(line.as_bytes()).unwrap() == request);
}

#[test]
fn the_shape_of_a_request_is_the_documented_one() {
    let request = Request::new(None, Command::Status {});
    assert_eq!(line_of(&request), "{\"v\":1,\"network\":null,\"cmd\":{\"status\":{}}}\n");
}

#[test]
fn a_newer_version_is_refused_for_its_version_and_not_for_its_shape() {
    let line = br#"{"v":2,"net":[],"cmd":{"levitate":{}}}"#;
    assert!(matches!(Request::parse(line), Err(RequestError::Version(2))));
    let line = br#"{"v":1,"cmd":{"levitate":{}}}"#;
    assert!(matches!(Request::parse(line), Err(RequestError::Malformed)));
}

#[test]
fn unknown_and_absent_optional_fields_do_no_harm() {
    let line = br#"{"v":1,"colour":"red","cmd":{"join":{"token":"tacet-invite1abc","mood":3}}}"#;
    let expected = Request::new(
        None,
        Command::Join { token: Secret::new("tacet-invite1abc".to_owned()), machine: None, alias: None },
    );
    assert!(Request::parse(line).unwrap() == expected);
}

#[test]
fn a_token_with_characters_that_json_escapes_is_refused() {
    let line = br#"{"v":1,"cmd":{"join":{"token":"a\"b"}}}"#;
    assert!(matches!(Request::parse(line), Err(RequestError::Malformed)));
}

#[test]
fn what_only_a_newer_vpnd_says_reads_as_the_general_case() {
    assert!(matches!(
        serde_json::from_str(r#"{"progress":"dancing"}"#),
        Ok(Reply::Progress(Progress::Other))
    ));
    let error = r#"{"error":{"code":"too_hot","what":"a","why":"b","next":"c"}}"#;
    assert!(matches!(serde_json::from_str(error), Ok(Reply::Error(e)) if e.code == ErrorCode::Failed));
}

#[test]
fn lines_come_whole_however_the_bytes_arrive() {
    let mut lines = Lines::new(10);
    let mut seen = Vec::new();
    for byte in b"one\n\ntwo\nthr" {
        lines.push(&[*byte]);
        while let Some(line) = lines.next_line().unwrap() {
            seen.push(line.to_vec());
        }
    }
    assert_eq!(seen, [b"one".to_vec(), b"".to_vec(), b"two".to_vec()]);
}

#[test]
fn a_line_over_the_bound_is_an_error_with_and_without_its_newline() {
    let mut lines = Lines::new(4);
    lines.push(b"1234\n");
    assert_eq!(lines.next_line().unwrap().unwrap().as_slice(), b"1234");
    lines.push(b"12345\n");
    assert_eq!(lines.next_line(), Err(TooLong));
    let mut lines = Lines::new(4);
    lines.push(b"12345");
    assert_eq!(lines.next_line(), Err(TooLong));
}

#[test]
fn an_answer_reads_back() {
    let line = encode(&Reply::Ok(Answer::Done {}));
    assert_eq!(line.as_slice(), b"{\"ok\":{\"done\":{}}}\n");
    assert!(serde_json::from_slice::<Reply>(&line).unwrap() == Reply::Ok(Answer::Done {}));
}
