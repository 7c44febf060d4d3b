"""Reads the cost of a program from the text of its HLO, as XLA compiled it for a TPU.

The compiler annotates operations with the cycles that it expects them to take; those in a loop's
body count once for each iteration. An array whose layout has S(1) or S(2) is in on-chip memory, any
other in the device's main memory (HBM).

The compiler can overlap a collective with arithmetic: it fuses the collective's steps into
operations between a start and an end, which are fusions themselves. Each of these names the
collective again, with the same chain_id.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
)  # fmt: skip
BITS = {"pred": 8, "bf16": 16, "tuple": 0, "token": 0, "opaque": 0}  # other names contain it
# Operations that move nothing.
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
    "call", "partition-id", "replica-id", "after-all", "custom-call", "optimization-barrier",
}  # fmt: skip


@dataclass(frozen=True)
class Collective:
    """Communication of one kind among groups of the same size, in one step.

    Attributes:
        kind: one of COLLECTIVES.
        devices: number of devices in each group.
        count: number of operations in a step.
        bytes: size of the whole arrays that are reduced, gathered, scattered or sent, in total.
        cycles: those of the operations into which its steps are fused, in total; 0 if it runs
            alone.
    """

    kind: str
    devices: int
    count: int
    bytes: int
    cycles: int = 0


@dataclass(frozen=True)
class Operation:
    """The cost of one operation of a program.

    Attributes:
        name: its name in the program.
        source: its JAX name, with the names of the modules around it.
        times: how often it runs, counting the iterations of loops.
        cycles: the compiler's estimate for one run; None for a kernel, which it cannot estimate.
        windows: the number of iterations over parts of the arrays in one run.
    """

    name: str
    source: str
    times: int
    cycles: int | None
    windows: int


@dataclass
class Module:
    """The cost of one run of a program on one device.

    Attributes:
        cycles: the compiler's estimate.
        hbm_bytes: bytes that the operations read from and write to HBM.
        collectives: by kind and size of the groups.
        operations: all operations with an estimate, and calls to kernels.
    """

    cycles: int = 0
    hbm_bytes: float = 0.0
    collectives: list[Collective] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)


@dataclass(frozen=True)
class _Array:
    bytes: float
    on_chip: bool


@dataclass(frozen=True)
class _Instruction:
    name: str
    opcode: str
    arrays: tuple[_Array, ...]  # its results
    operands: tuple[str, ...]
    text: str  # from the operands on


def parse(text: str) -> Module:
    """Reads the costs of an optimized HLO module, as `compiled.as_text()` prints it."""
    computations = dict(_computations(text))
    module = Module()
    collectives: dict[tuple[str, int, bool], list[int]] = defaultdict(lambda: [0, 0, 0])
    for run in _runs(computations, "ENTRY"):
        instruction = run.instruction
        kind = instruction.opcode.removesuffix("-start")
        if kind in COLLECTIVES and (devices := _group_size(instruction.text)) > 1:
            if run.is_fused and _is_sliced(instruction, run.neighbours):
                kind = "reduce-scatter"  # which the compiler writes so, for one operation
            overlaps = "chain_id=" in instruction.text
            entry = collectives[kind, devices, overlaps]
            if not overlaps or _starts(run.neighbours):
                entry[0] += run.times
                entry[1] += run.times * _collective_bytes(kind, instruction, run.neighbours)
            else:
                entry[2] += run.times * run.fusion_cycles
        if run.is_fused:  # its cost is counted with the fusion
            continue
        cycles = _cycles(instruction)
        module.cycles += run.times * (cycles or 0)
        module.hbm_bytes += run.times * _hbm_bytes(instruction, run.neighbours, computations)
        if cycles is not None or '"tpu_custom_call"' in instruction.text:
            module.operations.append(_operation(instruction, run.times, cycles))
    module.collectives = [
        Collective(kind, devices, *value)
        for (kind, devices, _), value in sorted(collectives.items())
    ]
    return module


class _Run(NamedTuple):
    """An instruction as it runs: how often, and whether inside another that includes its cost."""

    instruction: _Instruction
    neighbours: dict[str, _Instruction]  # of its computation, by name
    times: int
    is_fused: bool
    fusion_cycles: int  # those of the innermost fusion that it is in


def _runs(
    computations: dict[str, dict[str, _Instruction]],
    name: str,
    times: int = 1,
    is_fused: bool = False,
    fusion_cycles: int = 0,
) -> Iterator[_Run]:
    """Yields every instruction of a computation, and of all computations that it calls."""
    instructions = computations.get(name, {})
    for instruction in instructions.values():
        yield _Run(instruction, instructions, times, is_fused, fusion_cycles)
        loops = _trip_count(instruction, computations) if instruction.opcode == "while" else 1
        inside = is_fused or instruction.opcode == "fusion" or _cycles(instruction) is not None
        for called in _called(instruction):
            cycles = _cycles(instruction) or 0
            yield from _runs(computations, called, times * loops, inside, cycles)


def _starts(instructions: dict[str, _Instruction]) -> bool:
    """Returns whether these are the start of a collective that overlaps with arithmetic."""
    return any('"AsyncCollectiveStart"' in each.text for each in instructions.values())


def _cycles(instruction: _Instruction) -> int | None:
    """Returns the compiler's estimate for one run; None if there is none."""
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.text)
    return int(found[1]) if found else None


def _operation(instruction: _Instruction, times: int, cycles: int | None) -> Operation:
    source = re.search(r'op_name="([^"]*)"', instruction.text)
    bounds = re.search(r'"iteration_bounds":\[([^\]]*)\]', instruction.text)
    windows = math.prod(map(int, re.findall(r"\d+", bounds[1]))) if bounds else 1
    return Operation(instruction.name, source[1] if source else "", times, cycles, windows)


def memory_needed(message: str) -> float | None:
    """Returns the bytes that a program needs, as the compiler's out-of-memory error says.

    None if the message is another error.
    """
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    found = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", message)
    return float(found[1]) * units[found[2]] if found else None


def _computations(text: str) -> Iterator[tuple[str, dict[str, _Instruction]]]:
    name = ""
    instructions: dict[str, _Instruction] = {}
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = "ENTRY" if line.startswith("ENTRY") else line.split()[0].lstrip("%")
            instructions = {}
        elif line.startswith("}"):
            yield name, instructions
        elif found := re.match(r"\s+(?:ROOT )?%?([\w.-]+) = (.*)", line):
            instruction = _instruction(*found.groups())
            instructions[instruction.name] = instruction


def _instruction(name: str, text: str) -> _Instruction:
    # A type, an opcode and operands; a type of several results is in parentheses of its own.
    opcode = re.search(r" ([a-z][a-z0-9-]*)\(", text)
    if not opcode:
        raise ValueError(f"{name} is not an instruction: {text}")
    rest = text[opcode.end() :]
    operands = tuple(re.findall(r"%([\w.-]+)", rest.partition(")")[0]))
    return _Instruction(name, opcode[1], tuple(_arrays(text[: opcode.start()])), operands, rest)


def _arrays(text: str) -> Iterator[_Array]:
    for dtype, shape, layout in re.findall(r"(\w+)\[([\d,<=]*)\](\{[^}]*\})?", text):
        bits = BITS[dtype] if dtype in BITS else int((re.search(r"\d+", dtype) or ["0"])[0])
        sizes = [int(size.removeprefix("<=")) for size in shape.split(",") if size]
        yield _Array(math.prod(sizes) * bits / 8, "S(1)" in layout or "S(2)" in layout)


def _called(instruction: _Instruction) -> list[str]:
    names = "calls|body|to_apply" if instruction.opcode == "call" else "calls|body"
    return re.findall(rf"\b(?:{names})=%?([\w.-]+)", instruction.text)


def _group_size(text: str) -> int:
    """Returns the number of devices in a group of a collective."""
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", text):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", text):  # since jax 0.12
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", found[2]))
    if found := re.search(r"replica_groups=(?!\{\})(.{0,60})", text):
        raise ValueError(f"the compiler writes groups of devices as is not known here: {found[1]}")
    pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", text)
    return len(set(re.findall(r"\d+", pairs[1]))) if pairs else 0


def _is_sliced(instruction: _Instruction, instructions: dict[str, _Instruction]) -> bool:
    """Returns whether what is left of a sum over devices is a slice."""
    return instruction.opcode == "all-reduce" and any(
        each.opcode == "dynamic-slice" and instruction.name in each.operands
        for each in instructions.values()
    )


def _collective_bytes(
    kind: str, instruction: _Instruction, instructions: dict[str, _Instruction]
) -> int:
    """Returns the size of the whole array: a gather's result, or the operands of all others."""
    if kind == "all-gather":
        # An asynchronous start has (operands, results).
        arrays = instruction.arrays
        return int(sum(a.bytes for a in arrays[len(arrays) // 2 if len(arrays) > 1 and
                   instruction.opcode.endswith("start") else 0 :]))  # fmt: skip
    return int(
        sum(
            array.bytes
            for operand in instruction.operands
            if operand in instructions
            for array in instructions[operand].arrays
        )
    )


def _trip_count(instruction: _Instruction, computations: dict[str, dict]) -> int:
    """Returns a loop's iterations, as the compiler states them or by its condition's constant."""
    if found := re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.text):
        return int(found[1])
    condition = re.search(r"condition=%?([\w.-]+)", instruction.text)
    constants = [
        int(found[1])
        for inner in computations.get(condition[1] if condition else "", {}).values()
        if inner.opcode == "constant" and (found := re.match(r"(\d+)\)", inner.text))
    ]
    return max(constants, default=1)


def _hbm_bytes(
    instruction: _Instruction, instructions: dict[str, _Instruction], computations: dict[str, dict]
) -> float:
    """Returns the bytes that an operation reads from HBM and writes to it."""
    opcode = instruction.opcode
    if opcode in FREE or opcode.endswith("-done"):
        return 0.0
    if opcode.endswith("-start"):  # results are (destination, source, context)
        return sum(array.bytes for array in instruction.arrays[:2] if not array.on_chip)
    called = _called(instruction) if opcode == "fusion" else ()
    inner = [i for name in called for i in computations.get(name, {}).values()]
    results = dict(enumerate(instruction.arrays))
    operands = dict(enumerate(instruction.operands))
    if any("chain_id=" in i.text for i in inner):
        # What belongs to a collective is handed on; its traffic counts where it starts.
        if any('"AsyncCollectiveDone"' in i.text for i in inner):
            return 0.0
        for result, operand in re.findall(r"\{(\d+)\}: \((\d+), ", instruction.text):
            results.pop(int(result), None)
            if not _starts({i.name: i for i in inner}):
                operands.pop(int(operand), None)
    arrays = list(results.values())
    for name in operands.values():
        arrays += instructions[name].arrays if name in instructions else ()
    moved = [array.bytes for array in arrays if not array.on_chip]
    # If an array is sliced or updated in place, only the slice is moved.
    slices = [i for i in inner if i.opcode in ("dynamic-slice", "dynamic-update-slice")]
    if opcode in ("dynamic-slice", "dynamic-update-slice"):
        slices = [instruction]
    for piece in slices:
        whole, part = _sliced(piece, {i.name: i for i in inner} | instructions)
        for _ in range(1 + (piece.opcode == "dynamic-update-slice")):
            if whole in moved:
                moved[moved.index(whole)] = part
    return sum(moved)


def _sliced(piece: _Instruction, instructions: dict[str, _Instruction]) -> tuple[float, float]:
    """Returns the bytes of the whole array and of its slice."""
    whole = instructions[piece.operands[0]].arrays[0].bytes
    if piece.opcode == "dynamic-slice":
        return whole, piece.arrays[0].bytes
    return whole, instructions[piece.operands[1]].arrays[0].bytes
