import json, hashlib, shutil
from pathlib import Path
A=Path('artifacts'); R=A/'release'; F=json.load(open(A/'final.json')); q=json.load(open(A/'quant.json')); t=json.load(open(A/'home/minilm-late.json')); e=json.load(open(A/'home/minilm-encoder.json'))
sha=lambda p: hashlib.sha256(p.read_bytes()).hexdigest()
arch={"family":"bert","layers":6,"heads":12,"hidden_size":384,"intermediate_size":1536,"vocabulary_size":30522,"max_length":291}
w=lambda **k:{**dict(first_stage=0.0,encoder=0.0,mean=0.0,density=0.0,cross_encoder=0.0,constant=0.0),**k}
base=w(first_stage=0.324939,encoder=0.274319,mean=0.868882,density=0.228957); un=w(first_stage=0.3531,mean=0.963,density=0.4973,constant=0.6014)
m=lambda v:dict(zip(('top1','top3','top5','top10','mrr'),v))
doc={"format":"xuankan-release/1","name":"xuankan-minilm-evidence","base_model":"all-MiniLM-L6-v2","architecture":arch,"template":"21df82054b18100e","catalogue":"00ac790c6be54728","first_stage_weight":0.0,"temperature":1.0,
"files":{n:sha(R/n) for n in ('encoder.onnx','corpus.npz')},"quantization":q,
"encoder":{"architecture":{**arch,"max_length":210},"journals":632,"dimensions":128,"neighbours":1024},
"fusion":{"base":base,"full":base,"unseen_base":un,"unseen_full":un,"kernel_temperature":0.05,"memory_years":6.0,"now":2023,"coverage":0.85,"most_rows":0,"journal_tokens":0,"fit":None},
"training":{"base_sha256":"53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db","data":t["data"],"settings":{"encoder":e["settings"],"late":t["settings"]},"training_s":{"encoder":e["training_s"],"late":t["training_s"]},"device":t.get("device"),"torch":t["torch"]},
"commit":"","metrics":{"test":m(F["minilm/test/no rows"]),"transfer":m(F["minilm/transfer/no rows"])}}
(R/'manifest.json').write_text(json.dumps(doc,indent=2)+'\n')
D=Path('worker/xuankan_worker/data/model'); (D/'model.onnx').unlink(missing_ok=True)
for n in ('encoder.onnx','corpus.npz','manifest.json'): shutil.copy(R/n,D/n)
for n in ('catalogue.json.gz','first_stage.npz'): shutil.copy(A/'catalogue'/n,Path('producer/xuankan/data')/n)
