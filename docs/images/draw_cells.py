"""Draw the figures of docs/derivations: one time step of each cell, and the loop over time, as SVG.

Run it: python docs/images/draw_cells.py

Blue arrows are forward. Red ones, dashed, are backward; each carries the name that the code gives the gradient which
runs along it, and how it is computed. A figure has its own background, so that it reads on light and dark pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

Point = tuple[float, float]

INK, FAINT, PAPER, LINE = "#1c1f23", "#5a6169", "#ffffff", "#c9ced4"
FORWARD, BACKWARD = "#1f5fbf", "#b3261e"
VALUE, OPERATION, FROM_X, FROM_H = "#e8f0fb", "#ffffff", "#dff3e4", "#fdf0d5"
FONT = "'DejaVu Sans Mono', Menlo, Consolas, monospace"
SIZE = 15  # of the letters; 10 px where a figure of 530 is shown on a telephone 390 wide
GAP = 7  # between an arrow forward and its twin backward


@dataclass(frozen=True)
class Node:
    """A box or a circle: centre, half width and half height."""

    x: float
    y: float
    a: float
    b: float

    @property
    def top(self) -> Point:
        """Middle of the upper edge, where arrows end."""
        return self.x, self.y - self.b

    @property
    def bottom(self) -> Point:
        """Middle of the lower edge."""
        return self.x, self.y + self.b

    @property
    def left(self) -> Point:
        """Middle of the left edge."""
        return self.x - self.a, self.y

    @property
    def right(self) -> Point:
        """Middle of the right edge."""
        return self.x + self.a, self.y


@dataclass
class Figure:
    """SVG elements in their order."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, *lines: str, color: str = INK, anchor: str = "middle", size: int = SIZE) -> None:
        """Lines of text, the middle of the first at y."""
        for row, line in enumerate(lines):
            self.parts.append(
                f'<text x="{x:g}" y="{y + 5 + row * (size + 3):g}" fill="{color}" text-anchor="{anchor}" '
                f'font-size="{size}">{escape(line)}</text>'
            )

    def box(self, x: float, y: float, label: str, width: float = 0, fill: str = VALUE, height: float = 30) -> Node:
        """A named value."""
        node = Node(x, y, (width or 9.1 * len(label) + 14) / 2, height / 2)
        self.parts.append(
            f'<rect x="{x - node.a:g}" y="{y - node.b:g}" width="{2 * node.a:g}" height="{2 * node.b:g}" rx="6" '
            f'fill="{fill}" stroke="{INK}"/>'
        )
        self.text(x, y, label)
        return node

    def circle(self, x: float, y: float, label: str) -> Node:
        """An operation between values."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="12" fill="{OPERATION}" stroke="{INK}"/>')
        self.text(x, y, label, size=16)
        return Node(x, y, 12, 12)

    def both(self, *points: Point) -> None:
        """An arrow forward through the points, and on its right one backward."""
        self.forward(*_beside(points, -GAP / 2))
        self.backward(*_beside(points, GAP / 2)[::-1])

    def forward(self, *points: Point) -> None:
        """An arrow through the points."""
        self._arrow(points, FORWARD, "forward", "")

    def backward(self, *points: Point) -> None:
        """A dashed arrow through the points."""
        self._arrow(points, BACKWARD, "backward", ' stroke-dasharray="5 3"')

    def weight(self, x: float, y: float, *lines: str, anchor: str = "start") -> None:
        """What an arrow forward multiplies by."""
        self.text(x, y, *lines, color=FORWARD, anchor=anchor)

    def gradient(self, x: float, y: float, *lines: str, anchor: str = "start") -> None:
        """What runs backward."""
        self.text(x, y, *lines, color=BACKWARD, anchor=anchor)

    def _arrow(self, points: tuple[Point, ...], color: str, marker: str, extra: str) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"{extra} '
            f'marker-end="url(#{marker})"/>'
        )

    def frame(self, left: float, top: float, right: float, bottom: float) -> None:
        """A faint frame around what is one array."""
        self.parts.append(
            f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" rx="8" fill="none" '
            f'stroke="{FAINT}" stroke-dasharray="2 3"/>'
        )

    def legend(self, x: float, y: float) -> None:
        """Which arrows are which."""
        self.forward((x, y), (x + 34, y))
        self.weight(x + 42, y, "forward")
        self.backward((x + 34, y + 22), (x, y + 22))
        self.gradient(x + 42, y + 22, "backward")

    def svg(self) -> str:
        """The whole figure."""
        markers = "".join(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{color}"/></marker>'
            for name, color in (("forward", FORWARD), ("backward", BACKWARD))
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" font-family="{FONT}" role="img">\n<title>{escape(self.title)}</title>\n'
            f"<defs>{markers}</defs>\n"
            f'<rect x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="8" fill="{PAPER}" '
            f'stroke="{LINE}"/>\n' + "\n".join(self.parts) + "\n</svg>\n"
        )


def _beside(points: tuple[Point, ...], distance: float) -> list[Point]:
    """The same way at a distance to the right of it; the way has right angles only."""
    moved = []
    for i, (x, y) in enumerate(points):
        normals = {_right_of(*points[j : j + 2]) for j in (i - 1, i) if 0 <= j < len(points) - 1}
        moved.append((x + distance * sum(n[0] for n in normals), y + distance * sum(n[1] for n in normals)))
    return moved


def _right_of(start: Point, end: Point) -> Point:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = (dx * dx + dy * dy) ** 0.5
    return -dy / length, dx / length


def rnn() -> Figure:
    """One step of cells/rnn.py."""
    figure = Figure(530, 372, "One time step of the simple recurrent network, forward and backward")
    h_prev = figure.box(48, 150, "h_prev", 70)
    gates_h = figure.box(208, 150, "gates_h")
    plus = figure.circle(302, 150, "+")
    tanh = figure.box(376, 150, "tanh", fill=OPERATION)
    h = figure.box(458, 150, "h", 36)
    gates_x = figure.box(302, 260, "gates_x")
    x = figure.box(302, 340, "x", 36)

    figure.both(h_prev.right, gates_h.left)
    figure.weight(126, 130, "W_hhᵀ", anchor="middle")
    figure.gradient(126, 176, "d_a W_hh", anchor="middle")
    figure.both(gates_h.right, plus.left)
    figure.gradient(288, 200, "d_gates_h = d_a", anchor="end")
    figure.both(gates_x.top, plus.bottom)
    figure.gradient(316, 228, "d_gates_x = d_a")
    figure.both(x.top, gates_x.bottom)
    figure.weight(288, 300, "W_xhᵀ + b_h", anchor="end")
    figure.gradient(316, 300, "d_a W_xh")
    figure.both(plus.right, tanh.left)
    figure.weight(328, 130, "a", anchor="middle")
    figure.gradient(330, 176, "d_a", anchor="middle")
    figure.both(tanh.right, h.left)
    figure.gradient(416, 176, "d_h", anchor="middle")
    figure.both(h.top, (h.x, 52))
    figure.text(h.x, 32, "outputs[t]")
    figure.both(h.right, (522, 150))
    figure.text(522, 182, "next step", anchor="end")
    figure.gradient(522, 202, "d_state[0]", anchor="end")
    figure.gradient(440, 66, "d_h = d_outputs[t] + d_state[0]", anchor="end")
    figure.gradient(440, 92, "d_a = d_h · (1 - h²)", anchor="end")
    figure.legend(16, 320)
    return figure


def lstm() -> Figure:
    """One step of cells/lstm.py."""
    figure = Figure(530, 660, "One time step of the LSTM, forward and backward")
    columns = {"f": 130, "i": 217, "g": 310, "o": 424}
    c_prev = figure.box(46, 60, "c_prev", 70)
    forget = figure.circle(columns["f"], 60, "×")
    plus = figure.circle(263, 60, "+")
    c = figure.box(350, 60, "c", 36)
    write = figure.circle(263, 140, "×")
    tanh = figure.box(350, 130, "tanh", fill=OPERATION)
    read = figure.circle(columns["o"], 195, "×")
    h = figure.box(478, 195, "h", 32)

    figure.both(c_prev.right, forget.left)
    figure.gradient(100, 30, "d_c · f", anchor="middle")
    figure.both(forget.right, plus.left)
    figure.gradient(196, 84, "d_c", anchor="middle")
    figure.both(plus.right, c.left)
    figure.gradient(304, 84, "d_c", anchor="middle")
    figure.both(c.right, (522, c.y))
    figure.text(522, 36, "next step", anchor="end")
    figure.gradient(522, 84, "d_c", anchor="end")
    figure.both(write.top, plus.bottom)
    figure.both(c.bottom, tanh.top)
    figure.gradient(384, 116, "d_c += d_h·o", "·(1-tanh_c²)")
    figure.both(tanh.bottom, (tanh.x, read.y), read.left)
    figure.gradient(383, 220, "d_h · o", anchor="middle")
    figure.both(read.right, h.left)
    figure.both(h.right, (522, h.y))
    figure.text(524, 226, "outputs[t]", "next step", anchor="end")
    figure.gradient(524, 264, "d_h", anchor="end")
    figure.gradient(116, 168, "d_f =", "d_c·c_prev", anchor="end")
    figure.gradient(231, 176, "d_i =", "d_c·g")
    figure.gradient(297, 230, "d_g =", "d_c·i", anchor="end")
    figure.gradient(411, 250, "d_o =", "d_h·tanh_c", anchor="end")

    ways = {
        "f": [forget.bottom],
        "i": [(columns["i"], write.y), write.left],
        "g": [(columns["g"], write.y), write.right],
        "o": [read.bottom],
    }
    for name, x in columns.items():
        value = figure.box(x, 300, name, 36)
        activation = figure.box(x, 362, "tanh" if name == "g" else "sigmoid", fill=OPERATION)
        a = figure.box(x, 452, f"a_{name}", 48)
        figure.both(value.top, *ways[name])
        figure.both(activation.top, value.bottom)
        figure.both(a.top, activation.bottom)
        figure.gradient(x + 12, 398, f"d_{name}", "·(1-g²)" if name == "g" else f"·{name}(1-{name})")
    figure.frame(96, 428, 458, 476)
    figure.text(70, 452, "a")
    figure.gradient(480, 452, "d_a", anchor="start")

    plus = figure.circle(277, 540, "+")
    gates_h, gates_x = figure.box(166, 540, "gates_h"), figure.box(388, 540, "gates_x")
    h_prev, x = figure.box(166, 625, "h_prev", 70), figure.box(388, 625, "x", 36)
    figure.both(plus.top, (plus.x, 476))
    figure.both(gates_h.right, plus.left)
    figure.both(gates_x.left, plus.right)
    figure.both(h_prev.top, gates_h.bottom)
    figure.both(x.top, gates_x.bottom)
    figure.gradient(263, 502, "d_gates_h = d_a", anchor="end")
    figure.gradient(291, 502, "d_gates_x = d_a")
    figure.weight(152, 574, "W_hhᵀ", anchor="end")
    figure.gradient(152, 594, "d_a W_hh", anchor="end")
    figure.weight(402, 574, "W_xhᵀ + b_h")
    figure.gradient(402, 594, "d_a W_xh")
    figure.legend(222, 612)
    return figure


def gru() -> Figure:
    """One step of cells/gru.py."""
    figure = Figure(530, 640, "One time step of the GRU, forward and backward")
    z_x, r_x, h_x, n_x = 116, 242, 348, 415
    h_prev = figure.box(46, 60, "h_prev", 70)
    keep = figure.circle(z_x, 60, "×")
    plus = figure.circle(n_x, 60, "+")
    h = figure.box(480, 60, "h", 32)
    write = figure.circle(n_x, 140, "×")
    shut = figure.box(262, 140, "1 - z", fill=OPERATION)
    n = figure.box(n_x, 205, "n", 36)
    tanh = figure.box(n_x, 258, "tanh", fill=OPERATION)
    add = figure.circle(n_x, 330, "+")
    reset = figure.circle(h_x, 330, "×")
    z, r = figure.box(z_x, 290, "z", 36), figure.box(r_x, 330, "r", 36)

    figure.both(h_prev.right, keep.left)
    figure.gradient(92, 30, "d_h · z", anchor="middle")
    figure.both(keep.right, plus.left)
    figure.gradient(272, 84, "d_h", anchor="middle")
    figure.both(plus.right, h.left)
    figure.both(h.right, (522, h.y))
    figure.text(522, 30, "outputs[t], next step", anchor="end")
    figure.gradient(522, 88, "d_h", anchor="end")
    figure.both(z.top, keep.bottom)
    figure.both((z_x + 5, shut.y), shut.left)
    figure.both(shut.right, write.left)
    figure.both(write.top, plus.bottom)
    figure.both(n.top, write.bottom)
    figure.both(tanh.top, n.bottom)
    figure.both(add.top, tanh.bottom)
    figure.both(reset.right, add.left)
    figure.both(r.right, reset.left)
    figure.gradient(130, 190, "d_z = d_h", "·(h_prev - n)")
    figure.gradient(429, 164, "d_n =", "d_h·(1-z)")
    figure.gradient(429, 284, "d_x_n =", "d_n·(1-n²)")
    figure.gradient(254, 284, "d_r =", "d_x_n·h_n")

    for name, x, gate in (("z", z_x, z), ("r", r_x, r)):
        sigmoid = figure.box(x, 392, "sigmoid", fill=OPERATION)
        total = figure.circle(x, 446, "+")
        from_x = figure.box(x - 25, 510, f"x_{name}", 44, FROM_X)
        from_h = figure.box(x + 25, 510, f"h_{name}", 44, FROM_H)
        figure.both(sigmoid.top, gate.bottom)
        figure.both(total.top, sigmoid.bottom)
        for part, end in ((from_x, total.left), (from_h, total.right)):
            figure.both(part.top, (part.x, total.y), end)
        figure.gradient(x, 538, f"d_x_{name} = d_h_{name}", f"= d_{name}·{name}(1-{name})", anchor="middle")
    h_n = figure.box(h_x, 510, "h_n", 44, FROM_H)
    x_n = figure.box(n_x, 510, "x_n", 44, FROM_X)
    figure.both(h_n.top, reset.bottom)
    figure.both(x_n.top, add.bottom)
    figure.gradient(h_x, 538, "d_h_n =", "d_x_n·r", anchor="middle")
    figure.gradient(n_x, 538, "d_x_n", anchor="middle")

    figure.box(28, 590, "", 24, FROM_X, 20)
    figure.weight(48, 590, "gates_x = x W_xhᵀ + b_h")
    figure.box(28, 616, "", 24, FROM_H, 20)
    figure.weight(48, 616, "gates_h = h_prev W_hhᵀ (+ b_hn)")
    figure.legend(400, 592)
    return figure


def time() -> Figure:
    """Three steps of kernels/reference.py, and the products of layers/recurrent.py."""
    figure = Figure(530, 466, "Back-propagation through time: three steps unrolled, and where each gradient goes")
    columns = (130, 280, 430)
    before = figure.box(36, 205, "state", 60)
    figure.gradient(36, 236, "stops", "here", anchor="middle")
    for t, x in enumerate(columns):
        cell = figure.box(x, 205, "cell", 56, OPERATION)
        outputs = figure.box(x, 120, f"outputs[{t}]")
        losses = figure.box(x, 32, f"losses[{t}]")
        gates_x = figure.box(x, 298, f"gates_x[{t}]")
        figure.both(outputs.top, losses.bottom)
        figure.both(cell.top, outputs.bottom)
        figure.both(gates_x.top, cell.bottom)
        figure.both(before.right, cell.left)
        figure.gradient(x + 13, 76, "d_logits")
        figure.gradient(x + 13, 162, "d_outputs")
        figure.gradient(x + 13, 248, "d_gates_x")
        figure.weight(x + 60, 186, f"h[{t}]", anchor="middle")
        figure.gradient(x + 60, 226, "d_h", anchor="middle")
        before = cell
    figure.both(before.right, (522, before.y))
    figure.frame(66, 274, 494, 322)
    x = figure.box(280, 400, "x", 36)
    figure.both(x.top, (x.x, 322))
    figure.weight(266, 350, "gates_x =", "x W_xhᵀ + b_h", anchor="end")
    figure.gradient(294, 350, "d_W_xh = d_gates_xᵀ x", "d_b_h = Σ d_gates_x")
    figure.gradient(265, 440, "d_W_hh = d_gates_hᵀ h_prev, where h_prev[t] = h[t-1]", anchor="middle")
    figure.legend(16, 388)
    return figure


FIGURES = {"rnn-cell": rnn, "lstm-cell": lstm, "gru-cell": gru, "through-time": time}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (Path(__file__).parent / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")
