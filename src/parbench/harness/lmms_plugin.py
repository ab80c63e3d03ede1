"""How lmms-eval finds the model class: ``lmms-eval --model parbench_llava``."""

from lmms_eval.models.registry_v2 import ModelManifest

manifest = ModelManifest(model_id="parbench_llava", simple_class_path="parbench.harness.lmms_model.ParbenchLlava")
