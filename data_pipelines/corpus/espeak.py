"""Speech from text, by the espeak-ng library that the package `espeakng_loader` carries, called in this process.

The C library keeps its state (phases of the pitch flutter, two random generators) in globals, so that a sentence
sounds a little different each time. Each `Espeak` therefore loads a private copy of the library: the same calls on a
new one give the same samples.
"""

import _ctypes
import ctypes
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: `espeak_Synth` returns when the callback has had everything
_DO_NOT_EXIT = 0x8000  # espeak_Initialize: report an error instead of ending the process
_UTF8 = 1
_WORDS_PER_MINUTE, _PITCH = 1, 3  # espeak_PARAMETER
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """One synthesizer. Not for several threads at once; close it, or use it in a `with` block.

    sample_rate_hertz: of what `say` returns, 22050 for espeak-ng's own voices.
    """

    def __init__(self, seed: int) -> None:
        """OSError if the library cannot be loaded, ValueError if its data cannot."""
        import espeakng_loader

        self._chunks: list[NDArray[np.int16]] = []
        self._error: BaseException | None = None
        self._callback = _Callback(self._receive)  # kept: the library holds only its address
        self._folder = tempfile.TemporaryDirectory(prefix="espeak-")
        folder = Path(self._folder.name)
        # A link keeps the path short: the library cuts it off at 160 characters.
        (folder / "espeak-ng-data").symlink_to(Path(espeakng_loader.get_data_path()).resolve())
        self._library = ctypes.CDLL(str(shutil.copy(espeakng_loader.get_library_path(), folder)))
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(folder).encode(), _DO_NOT_EXIT)
        if rate <= 0:
            raise ValueError("espeak-ng does not find its voices; install espeakng-loader again")
        self.sample_rate_hertz: int = rate
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed & 0x7FFFFFFF))
        ctypes.CDLL(None).srand(ctypes.c_uint(seed & 0x7FFFFFFF))  # the breath of some voices draws from libc

    def say(self, text: str, *, voice: str, pitch: int, words_per_minute: int) -> NDArray[np.float32]:
        """float32 [samples] in -1..1, with whatever silence espeak-ng puts around the text.

        voice: a language of espeak-ng and a variant, such as "en-us+f3". pitch: 0..100, 50 is the voice's own.
        words_per_minute: 80..450. ValueError for an unknown voice, or when nothing is spoken.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}; choose one of the languages and variants it lists")
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        self._library.espeak_SetParameter(_WORDS_PER_MINUTE, words_per_minute, 0)
        self._chunks.clear()
        data = text.encode()
        self._error = None
        status = self._library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, _UTF8, None, None)
        if self._error is not None:
            raise self._error
        if status != 0 or not any(chunk.any() for chunk in self._chunks):
            raise ValueError(f"espeak-ng says nothing for {text!r}; give it words")
        return np.concatenate(self._chunks).astype(np.float32) / np.float32(32768)

    def close(self) -> None:
        """Free the library. Safe to call twice."""
        if self._folder.name and Path(self._folder.name).exists():
            self._library.espeak_Terminate()
            _ctypes.dlclose(self._library._handle)
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int | None) -> int:
        try:
            if samples and count > 0:
                self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        except BaseException as error:  # noqa: BLE001 - ctypes would swallow it, Ctrl-C too; `say` raises it again
            self._error = error
            return 1  # stop speaking
        return 0
