"""Documents for tests: made-up ones, and the same ones as hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st

from rayfit.data.documents import Document

_names = st.text(alphabet="abcdef/.019", min_size=1, max_size=8)
_texts = st.text(alphabet="ab cd.\né", max_size=70)


@st.composite
def documents(draw: st.DrawFn, max_size: int = 16) -> list[Document]:
    """Documents with different names and short texts."""
    names = draw(st.lists(_names, unique=True, max_size=max_size))
    return [Document(name, draw(_texts)) for name in names]


def numbered_documents(count: int, characters: int = 100) -> list[Document]:
    """Documents whose every word occurs in one place only, so that no span repeats another."""
    made = []
    for number in range(count):
        words = " ".join(f"word{number}x{place}" for place in range(characters // 8 + 1))
        made.append(Document(f"document-{number:04d}", words[:characters]))
    return made
