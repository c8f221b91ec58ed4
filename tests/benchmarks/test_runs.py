"""How rows come about: which tolerance each setting of a study is run at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.peers import OWN
from benchmarks.runs import alike, alone
from benchmarks.study import Setting, Study, conduct
from tests.benchmarks.toy import SCIPY, TOY, quiet_session

# One error is hard to meet, the other easy.
EASY, HARD = replace(TOY, error_bound=1e-3), replace(TOY, error_bound=1e-7)
STUDY = Study(
    name="toy",
    about="",
    settings=(Setting("easy", EASY, SCIPY), Setting("hard", HARD, SCIPY, unit="easy", seeds=128)),
    run=alike,
    contestants=(OWN,),
    unit="easy = 1",
    ladder=(1e-4, 1e-6, 1e-8, 1e-9),
)


def test_alike_is_the_last_setting_s_tolerance_and_alone_is_one_s_own(tmp_path: Path) -> None:
    session = quiet_session(tmp_path)
    easy, hard = conduct(STUDY, session).rows
    assert (easy.setting, easy.seeds) == ("easy", 2)
    assert (hard.setting, hard.seeds) == ("hard", 4)
    assert easy.rtol == hard.rtol < 1e-4
    assert easy.counts
    assert hard.counts
    # The seeds of both are the same, so more of them err no less.
    assert easy.error <= hard.error
    own, _ = conduct(replace(STUDY, run=alone), session).rows
    assert own.rtol == 1e-4
