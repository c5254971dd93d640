"""``kazashi words``: render, check and hear the spoken words; make their pictures and their table."""

import argparse
import sys
from pathlib import Path

from drivers.devices.sound import Clip
from fares.faults import Unusable
from fares.files import open_feed
from fares.gtfs import compile_feed
from firmware import compose
from firmware.failure import Failure
from firmware.words import all_clips, misreadings, render, sounding, write_documents
from validator.feedback import name_clip
from validator.messages import Message, Shown


def arguments(parser: argparse.ArgumentParser) -> None:
    """Render, check, say, or document."""
    parser.description = "The words of the validator, at build time. Needs the extra 'voice' (pyopenjtalk-plus)."
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="render|check|say|document")
    to_render = verbs.add_parser("render", help="make every clip that is missing or stale")
    to_render.add_argument("--into", type=Path, default=compose.CLIPS, metavar="FOLDER", help="default: build/clips")
    to_render.add_argument("--feed", type=Path, metavar="FEED", help="also the names of the stops of this GTFS-JP feed, by its readings")
    verbs.add_parser("check", help="does the synthesiser read every sentence as the data says?")
    to_say = verbs.add_parser("say", help="one message as a WAV file, with its words and reading")
    to_say.add_argument("message", choices=[message.value for message in Message], metavar="MESSAGE")
    to_say.add_argument("values", nargs="*", metavar="name=value", help="e.g. points=100 balance=1900")
    to_say.add_argument("-o", "--output", type=Path, default=Path("say.wav"), metavar="FILE")
    to_document = verbs.add_parser("document", help="write docs/messages.md and docs/pictures/ from the data")
    to_document.add_argument("--into", type=Path, default=Path("docs"), metavar="FOLDER")


def run(options: argparse.Namespace) -> int:
    """Do what was asked."""
    match options.verb:
        case "render":
            return _render(options.into, options.feed)
        case "check":
            return _check()
        case "say":
            return _say(Message(options.message), options.values, options.output)
        case _:
            return _document(options.into)


def _render(folder: Path, feed: Path | None) -> int:
    clips = all_clips(compose.wordbook())
    if feed is not None:
        clips = (*clips, *_names(feed))
    made = render(clips, folder, compose.open_synthesiser(), compose.write_wav, _progress)
    print(f"{len(clips)} clips in {folder}, {made} of them made now.")
    return 0


def _names(feed: Path) -> tuple[Clip, ...]:
    """The stops' names; those whose reading the feed does not tell are not spoken: a name is never guessed."""
    try:
        contents, _ = compile_feed(open_feed(feed))
    except Unusable as unusable:
        raise Failure(str(unusable)) from unusable
    return tuple(dict.fromkeys(name_clip(stop.name, stop.reading) for stop in contents.stops if stop.reading))


def _progress(done: int, of: int) -> None:
    if sys.stdout.isatty() and of:
        print(f"\r{done} of {of}", end="\n" if done == of else "", flush=True)


def _check() -> int:
    wordbook = compose.wordbook()
    found = list(misreadings(wordbook, compose.open_synthesiser()))
    for one in found:
        print(f"{one.text}: should be read {one.wanted}, is read {one.got}")
    print(f"{len(all_clips(wordbook))} clips and {len(Message)} sentences, {len(found)} misread.")
    return 1 if found else 0


def _say(message: Message, pairs: list[str], output: Path) -> int:
    values: dict[str, int | str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Failure(f"'{pair}' must be name=value, for example points=100")
        values[name] = int(value) if value.isascii() and value.isdigit() else value
    try:
        feedback = compose.wordbook().phrase(Shown(message, values))
    except ValueError as error:
        raise Failure(f"{error}; give it as name=value") from error
    compose.write_wav(output, sounding(feedback, compose.open_synthesiser()))
    print(f"{feedback.transcript}\n{feedback.reading}\n{output}")
    return 0


def _document(folder: Path) -> int:
    count, size = write_documents(compose.wordbook(), compose.open_painter(), folder)
    print(f"{folder / 'messages.md'} and {count} pictures ({size // 1024} KiB) in {folder / 'pictures'}.")
    return 0
