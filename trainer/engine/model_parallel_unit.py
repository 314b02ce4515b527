"""Our process groups under the names that DeepSpeed asks its `mpu` for."""

from torch.distributed import ProcessGroup

from triptych.trainer.parallel.groups import Groups


class ModelParallelUnit:
    """DeepSpeed's model parallelism is tensor times pipeline: it reduces the gradient norm over that group, and counts
    a parameter that is not split on tensor rank 0 alone.
    """

    def __init__(self, groups: Groups) -> None:
        self._groups = groups.collection

    def get_model_parallel_group(self) -> ProcessGroup:
        return self._groups.mp

    def get_model_parallel_rank(self) -> int:
        return self._groups.mp.rank()

    def get_model_parallel_world_size(self) -> int:
        return self._groups.mp.size()

    def get_tensor_model_parallel_group(self) -> ProcessGroup:
        return self._groups.tp

    def get_tensor_model_parallel_rank(self) -> int:
        return self._groups.tp.rank()

    def get_tensor_model_parallel_world_size(self) -> int:
        return self._groups.tp.size()

    def get_pipeline_model_parallel_group(self) -> ProcessGroup:
        return self._groups.pp

    def get_pipeline_model_parallel_world_size(self) -> int:
        return self._groups.pp.size()

    def get_data_parallel_group(self) -> ProcessGroup:
        return self._groups.dp

    def get_data_parallel_rank(self) -> int:
        return self._groups.dp.rank()

    def get_data_parallel_world_size(self) -> int:
        return self._groups.dp.size()
