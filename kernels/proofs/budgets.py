"""What Triton kernels cost, read from their machine code on a machine that may have no GPU.

The modules beside this one name the configurations in which kernels are launched, as `CONFIGURATIONS`; `compiled`
compiles one ahead of time for an architecture and reads registers, spills, shared memory, the widest accesses and
instruction counts. Only outside the interpreter: there is no machine code inside it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARCHITECTURES = (80, 90, 100)
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)


@dataclass(frozen=True)
class Configuration:
    """One way in which a kernel is launched.

    Attributes:
        kernel: the ``@triton.jit`` function.
        signature: type of every argument that is no constexpr, such as ``*fp32`` or ``i32``.
        constants: values of the constexprs.
        num_warps: of a program.
        aligned: arguments divisible by 16, as the launcher would find them; None stands for all pointers.
        options: of the compiler.
    """

    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int = 4
    aligned: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """What one compiled kernel uses.

    Attributes:
        registers: of a thread.
        spills: bytes of stack and local memory of a thread; a spill is a store to it.
        shared: bytes of a program.
        load: bits of the widest load from global memory, 0 without one.
        store: bits of the widest store to global memory.
        instructions: in the program text.
        tensor_cores: matrix instructions.
        barriers: of a program.
    """

    registers: int
    spills: int
    shared: int
    load: int
    store: int
    instructions: int
    tensor_cores: int
    barriers: int


def _width(counts: Counter[str], opcode: str) -> int:
    widths = [0]
    for name in counts:
        parts = name.split(".")
        if parts[0] in (opcode, f"{opcode}STS"):  # LDGSTS: to shared memory without passing through registers
            widths.append(next((int(p) for p in parts[1:] if p in ("64", "128", "256")), 32))
    return max(widths)


def source_of(configuration: Configuration) -> Any:
    """What Triton compiles, with a hash of all that it depends on.

    Args:
        configuration: of the kernel.

    Returns:
        A ``triton.compiler.ASTSource``.
    """
    from triton.compiler import ASTSource

    names = configuration.kernel.arg_names
    signature = {name: configuration.signature.get(name, "constexpr") for name in names}
    aligned = configuration.aligned
    if aligned is None:
        aligned = tuple(name for name, kind in signature.items() if kind.startswith("*"))
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    return ASTSource(configuration.kernel, signature, dict(configuration.constants), attributes)


def compiled(configuration: Configuration, architecture: int) -> Any:
    """Compiles for ``sm_<architecture>``, or takes the machine code from Triton's cache.

    Args:
        configuration: of the kernel.
        architecture: 80, 90 or 100.

    Returns:
        A ``triton.compiler.CompiledKernel``.
    """
    import triton
    from triton.backends.compiler import GPUTarget

    options = {"num_warps": configuration.num_warps, **configuration.options}
    return triton.compile(source_of(configuration), target=GPUTarget("cuda", architecture, 32), options=options)


def usage_of(kernel: Any) -> Usage:
    """Reads machine code.

    Args:
        kernel: compiled.

    Returns:
        What it uses.

    Raises:
        RuntimeError: If the tools of Triton list no machine code.
    """
    import triton

    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()

        def dump(flag: str) -> str:
            command = [str(tools / "cuobjdump"), flag, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        resources, sass = dump("-res-usage"), dump("-sass")
    used = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", resources)}
    counts = Counter(_INSTRUCTION.findall(sass))
    by_opcode: Counter[str] = Counter()
    for name, count in counts.items():
        by_opcode[name.split(".")[0]] += count
    if not by_opcode["EXIT"]:
        raise RuntimeError(f"cuobjdump must list machine code: got {sass[:200]!r}. Its format may have changed.")
    return Usage(
        registers=used["REG"],
        spills=used["STACK"] + used["LOCAL"] + by_opcode["STL"] + by_opcode["LDL"],
        shared=kernel.metadata.shared,
        load=_width(counts, "LDG"),
        store=_width(counts, "STG"),
        instructions=by_opcode.total() - by_opcode["NOP"],
        tensor_cores=sum(by_opcode[name] for name in ("HMMA", "QGMMA", "HGMMA", "UTCHMMA", "UTCQMMA")),
        barriers=by_opcode["BAR"],
    )
