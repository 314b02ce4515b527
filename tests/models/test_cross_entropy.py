"""Cross-entropy over a split vocabulary against torch's own in fp64, on 1, 2 and 4 ranks."""

import pytest
import torch
import torch.distributed as dist
from gloo_processes import Processes

from triptych.models.cross_entropy import vocabulary_parallel_cross_entropy

RANKS = (1, 2, 4)
NO_LABEL = -100


def logits_of(name):
    """(logits [R, columns of all ranks], labels [R], real ids). Columns from `real` on are padding."""
    draw = torch.Generator().manual_seed(5)
    normal = torch.randn(23, 16, generator=draw)
    labels = torch.randint(0, 16, (23,), generator=draw)
    match name:
        case "plain":
            return normal, labels, 16
        case "padded":  # of four ranks the last has padding alone, and the one before it some
            return with_loud_padding(normal, 9), labels % 9, 9
        case "one id":  # three of four ranks have padding alone
            return with_loud_padding(normal, 1), labels * 0, 1
        case "ties":  # few values, so that many columns share the largest
            return normal.round().clamp(-1, 1), labels, 16
        case "all equal":
            return normal * 0, labels, 16
        case "huge":  # exp overflows even fp64 unless the largest is taken off first
            return normal * 1e4, labels, 16
        case "no label":
            return normal, torch.where(torch.arange(23) % 3 == 0, NO_LABEL, labels), 16
        case "no row":
            return normal[:0], labels[:0], 16
    raise AssertionError(name)


def with_loud_padding(logits, real):
    """Padding that would win every softmax it got into."""
    return torch.cat([logits[:, :real], torch.full_like(logits[:, real:], 1e4)], 1)


CASES = ("plain", "padded", "one id", "ties", "all equal", "huge", "no label", "no row")
DTYPES = (torch.float32, torch.bfloat16)


def row_weights(labels):
    """Each row's gradient from above; 0 where there is no label."""
    return torch.linspace(-1, 2, len(labels)).masked_fill(labels == NO_LABEL, 0)


def on_every_rank(number):
    """Of each case and dtype: this rank's losses, correctness and gradient, with the first `number` ranks as group."""
    group = dist.new_group(list(range(number)))
    if dist.get_rank() >= number:
        return {}
    return {(case, dtype): one_case(case, dtype, group) for case in CASES for dtype in DTYPES}


def one_case(case, dtype, group):
    logits, labels, real = logits_of(case)
    part = logits.chunk(group.size(), 1)[group.rank()].to(dtype).requires_grad_()
    losses, correct = vocabulary_parallel_cross_entropy(part, labels, group, real)
    losses.backward(row_weights(labels))
    return losses.detach(), correct, part.grad


def on_all_groups():
    return {number: on_every_rank(number) for number in RANKS}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Number of ranks to what each of them has, in one start of four processes."""
    everyones = Processes(tmp_path_factory.mktemp("ranks"))(on_all_groups, max(RANKS))
    return {number: [theirs[number] for theirs in everyones[:number]] for number in RANKS}


def expected(case, dtype):
    """Losses, correctness and gradient in fp64, of the logits as they are stored; padding cut off and put back."""
    logits, labels, real = logits_of(case)
    whole = logits.to(dtype).double().requires_grad_()
    losses = torch.nn.functional.cross_entropy(whole[:, :real], labels, reduction="none", ignore_index=NO_LABEL)
    losses.backward(row_weights(labels).double())
    lowest_of_largest = whole[:, :real].max(1).indices  # torch on CPU gives the first of equals
    return losses.detach(), lowest_of_largest == labels, whole.grad


def tolerances(case, dtype):
    """The softmax is in fp32 whatever comes in; a bf16 gradient is rounded once, to 8 bits."""
    scale = 1e4 if case == "huge" else 1.0
    return {"rtol": 1e-5, "atol": 2e-6 * scale}, {"rtol": 2**-8 if dtype is torch.bfloat16 else 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("number", RANKS)
class TestAgainstTorch:
    def test_losses_on_every_rank(self, results, number, case, dtype):
        wanted, _, _ = expected(case, dtype)
        labelled = logits_of(case)[1] != NO_LABEL
        for theirs in results[number]:
            losses, _, _ = theirs[case, dtype]
            assert losses.dtype == torch.float32 and losses.isfinite().all()
            torch.testing.assert_close(losses[labelled].double(), wanted[labelled], **tolerances(case, dtype)[0])

    def test_gradients_of_every_part(self, results, number, case, dtype):
        _, _, wanted = expected(case, dtype)
        found = torch.cat([theirs[case, dtype][2] for theirs in results[number]], 1)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), wanted, **tolerances(case, dtype)[1])

    def test_padding_gets_no_gradient(self, results, number, case, dtype):
        found = torch.cat([theirs[case, dtype][2] for theirs in results[number]], 1)
        assert not found[:, logits_of(case)[2] :].any()

    def test_the_lowest_of_the_largest_is_the_guess(self, results, number, case, dtype):
        _, wanted, _ = expected(case, dtype)
        assert [theirs[case, dtype][1].tolist() for theirs in results[number]] == [wanted.tolist()] * number


@pytest.mark.parametrize("case", CASES)
def test_the_guess_does_not_depend_on_the_number_of_ranks(results, case):
    """Not even where bf16 or ties leave it to chance."""
    found = [results[number][0][case, torch.bfloat16][1].tolist() for number in RANKS]
    assert found == [found[0]] * len(RANKS)


def test_no_group_is_the_whole_vocabulary():
    logits, labels, real = logits_of("padded")
    losses, correct = vocabulary_parallel_cross_entropy(logits, labels, None, real)
    wanted_losses, wanted_correct, _ = expected("padded", torch.float32)
    torch.testing.assert_close(losses.double(), wanted_losses, **tolerances("padded", torch.float32)[0])
    assert correct.equal(wanted_correct)


def test_labels_that_nobody_holds_leave_a_softmax_gradient_that_a_weight_of_zero_removes():
    logits, labels, real = logits_of("no label")
    logits.requires_grad_()
    losses, correct = vocabulary_parallel_cross_entropy(logits, labels, None, real)
    losses.backward(row_weights(labels))
    unlabelled = labels == NO_LABEL
    assert not logits.grad[unlabelled].any() and not correct[unlabelled].any() and losses.isfinite().all()


def test_derivatives_in_small():
    """The gradient against differences, in fp32's reach: a step of 1e-2 on a smooth function."""
    logits, labels, real = logits_of("plain")
    logits = logits[:3].clone().requires_grad_()
    losses, _ = vocabulary_parallel_cross_entropy(logits, labels[:3], None, real)
    losses.sum().backward()
    step = torch.zeros_like(logits)
    step[1, 7] = 1e-2
    up, _ = vocabulary_parallel_cross_entropy(logits + step, labels[:3], None, real)
    down, _ = vocabulary_parallel_cross_entropy(logits - step, labels[:3], None, real)
    assert ((up - down).sum() / 2e-2).item() == pytest.approx(logits.grad[1, 7].item(), abs=1e-4)


def test_a_split_at_the_wrong_place_would_be_found():
    """The planted mistake: labels counted from a neighbour's first id."""
    logits, labels, real = logits_of("plain")
    right, _ = vocabulary_parallel_cross_entropy(logits, labels, None, real)
    wrong, _ = vocabulary_parallel_cross_entropy(logits, labels - 1, None, real)
    assert (right - wrong).abs().max() > 0.1
