"""Places of rings, and of tiles that make room for one another."""

from collections import deque

from pearray.compiler.places import Ring, Tiles


def test_places_never_overlap(rng):
    """A place that is given out twice would be written over while it is read."""
    for _ in range(50):
        alignment = int(rng.choice([1, 4]))
        ring, taken = Ring(64, alignment), deque()
        for _ in range(100):
            size = int(rng.integers(1, 33))
            if ring.has_room(size) and rng.integers(3):
                start = ring.take(size)
                assert start % alignment == 0
                assert 0 <= start <= 64 - size
                assert all(start + size <= first or end <= start for first, end in taken)
                taken.append((start, start + size))
            elif taken:
                ring.give_back()
                taken.popleft()


def test_halves_fit_whatever_was_between(rng):
    """Two of the largest always find room beside each other, as blocks of scores need it."""
    ring = Ring(64)
    for _ in range(100):
        for size in [int(rng.integers(1, 33)) for _ in range(rng.integers(0, 4))]:
            ring.take(size)
            ring.give_back()
        ring.take(32)
        assert ring.has_room(32)
        ring.take(32)
        ring.give_back()
        ring.give_back()


def test_tiles_stand_when_they_are_used(rng):
    """Each product finds its tile, and what is used last makes room."""
    for _ in range(30):
        uses = [(0, int(number)) for number in rng.integers(0, 9, 60)]
        tiles = Tiles(uses, int(rng.integers(1, 12)))
        standing = {}
        for index, tile in enumerate(uses):
            for ahead in range(index, min(index + 3, len(uses))):
                if tiles.place(ahead) is None:
                    place = tiles.make_room(ahead, index - 1)
                    if place is not None:
                        standing[place] = uses[ahead]
            assert standing[tiles.place(index)] == tile
            tiles.use(index)


def test_as_few_loads_as_can_be():
    """Tiles that are used in turns stay but for one place, which goes round."""
    uses = [(0, number) for _ in range(10) for number in range(8)]
    tiles, loads = Tiles(uses, 6), 0
    for index in range(len(uses)):
        if tiles.place(index) is None:
            loads += 1
            assert tiles.make_room(index, index - 1) is not None
        tiles.use(index)
    assert loads <= 8 + 9 * 3
