"""`boli bench training` on the toy base, in this process."""

from training.bench import Task, ours, plain


def test_both_train_and_ours_is_faster(manifests, toy_folder):
    task = Task(str(toy_folder), "dynamic", str(manifests["train"]), 4, 4, 1, 8, ("q_proj", "v_proj"), "cpu", 10.0)
    slow, fast = plain(task), ours(task)
    assert fast.samples_per_s > 1.5 * slow.samples_per_s
    assert 0 < fast.last_loss < 20
    assert 0 < slow.last_loss < 20
    assert fast.memory_mib > 0
