// mmcv's own kernels for operators that it has on the GPU only, callable through ctypes.
#include "roi_pool_cuda_kernel.cuh"
#include "sigmoid_focal_loss_cuda_kernel.cuh"

extern "C" {

void roi_pool_forward(int count, const float* input, const float* rois, float* output, int* argmax,
                      int rows, int columns, float scale, int channels, int height, int width) {
  roi_pool_forward_cuda_kernel<float>(count, input, rois, output, argmax, rows, columns, scale,
                                      channels, height, width);
}

void roi_pool_backward(int count, const float* grad_output, const float* rois, const int* argmax,
                       float* grad_input, int rows, int columns, int channels, int height,
                       int width) {
  roi_pool_backward_cuda_kernel<float>(count, grad_output, rois, argmax, grad_input, rows, columns,
                                       channels, height, width);
}

void sigmoid_forward(int count, const float* input, const int64_t* target, const float* weight,
                     float* output, float gamma, float alpha, int classes) {
  sigmoid_focal_loss_forward_cuda_kernel<float>(count, input, target, weight, output, gamma, alpha,
                                                classes);
}

void sigmoid_backward(int count, const float* input, const int64_t* target, const float* weight,
                      float* grad, float gamma, float alpha, int classes) {
  sigmoid_focal_loss_backward_cuda_kernel<float>(count, input, target, weight, grad, gamma, alpha,
                                                 classes);
}
}
